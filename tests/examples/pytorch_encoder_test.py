"""Exported weights give in plain PyTorch what they give in Flax."""

from functools import partial

import jax
import numpy as np
import pytest
import torch

from advbct_jax.models.encoder import make_encoder
from advbct_jax.models.resnet import (
  RESNETS,
  BasicBlock,
  BottleneckBlock,
  ResNet,
)
from advbct_jax.models.vit import VITS
from advbct_jax.weights.loading import load_encoder_variables
from examples import pytorch_encoder
from examples.pytorch_encoder import build_encoder
from tests.goldens.weights import draw

# ResNets that compile fast: names, theirs and ours.
SHALLOW = {
  'basic': ((1, 1, 1, 1), BasicBlock),
  'bottleneck': ((1, 1, 1, 1), BottleneckBlock),
}
CARD = {
  'architecture': 'basic',
  'width': 0.25,
  'stem': 'small',
  'pooling': 'mean',
  'head': 'batch_norm',
  'dimension': 8,
  'image_size': 32,
}
NORM = {
  f'bn.{leaf}'
  for leaf in (
    *('weight', 'bias', 'running_mean', 'running_var'),
    'num_batches_tracked',
  )
}


@pytest.fixture
def _shallow_architectures(monkeypatch):
  for name, (stages, block) in SHALLOW.items():
    monkeypatch.setitem(RESNETS, name, partial(ResNet, stages, block))
    monkeypatch.setitem(
      pytorch_encoder.RESNETS, name, (stages, block is BottleneckBlock)
    )


def _build(**fields):
  """The encoder of a card with random weights, and these as arrays."""
  module = build_encoder(CARD | fields).eval()
  shapes = {name: tuple(x.shape) for name, x in module.state_dict().items()}
  tensors = draw(list(shapes), list(shapes.values()), seed=0)
  module.load_state_dict(
    {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
  )
  return module, tensors


def _pytorch_embeddings(module, images):
  with torch.no_grad():
    return module(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()


def _our_variables(encoder, images, tensors):
  """The same weights in an encoder of ours."""
  shapes = jax.eval_shape(
    partial(encoder.init, train=False), jax.random.key(0), images
  )
  variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  variables, fresh = load_encoder_variables(tensors, variables, 'drawn')
  assert not fresh
  return variables


@pytest.mark.usefixtures('_shallow_architectures')
@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'architecture': 'bottleneck', 'pooling': 'gem', 'head': 'linear'},
    {
      **{'architecture': 'bottleneck', 'stem': 'imagenet', 'image_size': 64},
      **{'head': 'none', 'dimension': 512},
    },
    {
      **{'architecture': 'resnet18', 'stem': 'imagenet', 'image_size': 64},
      **{'width': 1.0, 'pooling': 'gem'},
    },
  ],
  ids=lambda fields: ','.join(map(str, fields.values())) or 'plain',
)
def test_a_resnet_embeds_as_ours_does(fields):
  module, tensors = _build(**fields)
  card = CARD | fields
  side = card.pop('image_size')
  random = np.random.default_rng(1)
  images = random.normal(size=(2, side, side, 3)).astype(np.float32)
  encoder = make_encoder(**card)
  variables = _our_variables(encoder, images, tensors)
  found = jax.jit(partial(encoder.apply, train=False))(variables, images)
  wanted = _pytorch_embeddings(module, images)
  assert found.shape == wanted.shape == (2, card['dimension'])
  assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(
  ('head', 'prefix', 'others', 'features'),
  [
    ('batch_norm', 'convnet.', {'projection_dim.weight', *NORM}, 8),
    ('linear', 'backbone.', {'fc_emb.weight', 'fc_emb.bias'}, 8),
    ('none', '', set(), 96),
  ],
)
@pytest.mark.parametrize(
  ('architecture', 'pooling', 'some_name'),
  [
    ('vit_small_patch16', 'cls', 'norm.weight'),
    ('vit_small_patch16', 'mean', 'fc_norm.weight'),
    ('resnet18', 'mean', 'layer4.1.conv2.weight'),
  ],
)
def test_a_head_gives_the_published_names(
  head, prefix, others, features, architecture, pooling, some_name
):
  card = CARD | {'architecture': architecture, 'pooling': pooling}
  with torch.device('meta'):
    module = build_encoder(card | {'head': head})
    backbone = build_encoder(card | {'head': 'none'})
  names = {prefix + name for name in backbone.state_dict()}
  assert set(module.state_dict()) == names | others
  assert prefix + some_name in names
  if architecture == 'resnet18' and head == 'none':
    features = 128
  images = torch.zeros(2, 3, 32, 32, device='meta')
  assert module(images).shape == (2, features)


def test_every_architecture_of_ours_can_be_held():
  assert pytorch_encoder.RESNETS.keys() == RESNETS.keys()
  for name, (stages, bottleneck) in pytorch_encoder.RESNETS.items():
    ours = RESNETS[name]()
    assert ours.stage_sizes == stages
    assert (ours.block is BottleneckBlock) == bottleneck
  assert pytorch_encoder.VITS.keys() == VITS.keys()
  for name, shape in pytorch_encoder.VITS.items():
    ours = VITS[name]()
    assert (ours.channels, ours.depth, ours.heads) == shape


@pytest.mark.usefixtures('_shallow_architectures')
def test_weights_without_batch_counters_are_loaded():
  module, tensors = _build()
  counters = [name for name in tensors if name.endswith('num_batches_tracked')]
  assert counters
  module.load_state_dict(
    {
      name: torch.from_numpy(tensor)
      for name, tensor in tensors.items()
      if name not in counters
    }
  )


@pytest.mark.parametrize(
  'fields',
  [
    {'architecture': 'resnet19'},
    {'stem': 'large'},
    {'pooling': 'cls'},
    {'architecture': 'vit_small_patch16', 'pooling': 'gem'},
    {'head': 'norm'},
  ],
)
def test_a_card_with_an_unknown_name_is_refused(fields):
  with pytest.raises(KeyError, match=list(fields.values())[-1]):
    build_encoder(CARD | {'architecture': 'resnet18'} | fields)
