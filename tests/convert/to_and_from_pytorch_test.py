from functools import partial
import json
import os
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from advbct_jax.convert.__main__ import main
from advbct_jax.convert.from_pytorch import import_weights
from advbct_jax.convert.to_pytorch import export_weights
from advbct_jax.errors import InputError
from advbct_jax.models.efficientnet_lite import EFFICIENTNET_LITES, Stage
from advbct_jax.models.encoder import make_encoder
from advbct_jax.models.resnet import (
  RESNETS,
  BasicBlock,
  BottleneckBlock,
  ResNet,
)
from advbct_jax.models.vit import VITS, VisionTransformer
from advbct_jax.training.checkpoints import (
  load_encoder,
  load_trained,
  read_config,
  save_state,
)
from advbct_jax.training.state import TrainState
from advbct_jax.training.workdir import (
  claim_inputs,
  read_inputs,
  require_finished,
)
from examples import pytorch_encoder
from tests.goldens.weights import draw
from tests.goldens_folder import golden_files

STEP = 5
TINY_RESNET = {
  'architecture': 'tiny_resnet',
  'width': 1 / 16,
  'stem': 'small',
  'pooling': 'mean',
  'head': 'batch_norm',
  'dimension': 8,
  'image_size': 32,
}
TINY_VIT = {
  'architecture': 'tiny_vit',
  'width': 1.0,
  'stem': 'imagenet',
  'pooling': 'cls',
  'head': 'none',
  'dimension': 48,
  'image_size': 32,
}

TINY_LITE = {
  'architecture': 'efficientnet_lite1',
  'width': 1 / 16,
  'stem': 'imagenet',
  'pooling': 'mean',
  'head': 'none',
  'dimension': 80,
  'image_size': 32,
}


@pytest.fixture(autouse=True)
def tiny_backbones(monkeypatch):
  """Small ones that are known both here and there."""
  for name, stages, block in (
    ('tiny_resnet', (1, 1, 1, 1), BasicBlock),
    ('tiny_bottlenecks', (1, 1, 1, 1), BottleneckBlock),
    # Numbers of one digit and of two, as those of ResNet-101.
    ('deep_bottlenecks', (1, 1, 11, 1), BottleneckBlock),
  ):
    monkeypatch.setitem(RESNETS, name, partial(ResNet, stages, block))
    monkeypatch.setitem(
      pytorch_encoder.RESNETS, name, (stages, block is BottleneckBlock)
    )
  tiny = partial(VisionTransformer, depth=2, heads=3, channels=48)
  monkeypatch.setitem(VITS, 'tiny_vit', tiny)
  monkeypatch.setitem(pytorch_encoder.VITS, 'tiny_vit', (48, 2, 3))


@pytest.fixture
def few_blocks(monkeypatch):
  """Makes an EfficientNet-Lite short, both here and there."""
  stages = (Stage(16, 1, 3, 1, 1), Stage(24, 2, 5, 2, 6))
  name = 'efficientnet_lite1'
  short = partial(EFFICIENTNET_LITES[name], stages=stages)
  monkeypatch.setitem(EFFICIENTNET_LITES, name, short)
  monkeypatch.setattr(pytorch_encoder, 'EFFICIENTNET_STAGES', stages)


def _module(card):
  """A PyTorch encoder with random weights and statistics."""
  module = pytorch_encoder.build_encoder(card).eval()
  state = module.state_dict()
  drawn = draw(list(state), [tensor.shape for tensor in state.values()], 0)
  drawn = {
    name: np.asarray(STEP) if name.endswith('num_batches_tracked') else array
    for name, array in drawn.items()
  }
  module.load_state_dict({n: torch.from_numpy(a) for n, a in drawn.items()})
  return module


def _save(module, path):
  save = torch.save if path.suffix == '.pth' else safetensors.torch.save_file
  save(module.state_dict(), path)


def _load(path):
  if path.suffix == '.pth':
    return torch.load(path, weights_only=True)
  return safetensors.torch.load_file(path)


def _require_same(found, wanted):
  assert found.keys() == wanted.keys()
  for name, tensor in wanted.items():
    assert found[name].dtype == tensor.dtype, name
    assert torch.equal(found[name], tensor), name


def _tensors():
  """A state dict of the tiny ResNet, under the published names."""
  state = _module(TINY_RESNET).state_dict()
  return {name: tensor.numpy() for name, tensor in state.items()}


def _write(tensors, path):
  safetensors.numpy.save_file(tensors, path)
  return str(path)


def _require_same_embeddings(workdir, module, size):
  images = np.random.default_rng(0).normal(size=(2, size, size, 3))
  images = images.astype(np.float32)
  encoder = load_encoder(workdir)
  embed = jax.jit(partial(encoder.module.apply, train=False))
  ours = embed(encoder.variables, images)
  with torch.no_grad():
    theirs = module(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
  np.testing.assert_allclose(
    ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max()
  )


@pytest.mark.parametrize(
  'fields',
  [
    TINY_RESNET | {'architecture': 'resnet18', 'stem': 'imagenet'},
    TINY_RESNET | {'head': 'none', 'dimension': 32},
    TINY_RESNET
    | {'architecture': 'resnet50', 'head': 'linear', 'pooling': 'gem'},
    TINY_RESNET | {'architecture': 'deep_bottlenecks', 'stem': 'imagenet'},
    TINY_VIT,
    TINY_VIT | {'pooling': 'mean', 'image_size': 48},
    TINY_VIT | {'head': 'batch_norm', 'dimension': 8},
    TINY_LITE,
    TINY_LITE | {'architecture': 'efficientnet_lite4'},
  ],
)
def test_pytorch_weights_come_back_bit_for_bit(tmp_path, fields):
  _require_that_weights_come_back(tmp_path, fields)


@pytest.mark.usefixtures('few_blocks')
@pytest.mark.parametrize('head', ['batch_norm', 'linear'])
def test_heads_of_efficientnet_lites_come_back_bit_for_bit(tmp_path, head):
  _require_that_weights_come_back(
    tmp_path, TINY_LITE | {'head': head, 'dimension': 8}
  )


def _require_that_weights_come_back(tmp_path, fields):
  module = _module(fields)
  _save(module, tmp_path / 'in.safetensors')
  import_weights(
    str(tmp_path / 'in.safetensors'), tmp_path / 'run', fields['image_size']
  )
  export_weights(tmp_path / 'run', tmp_path / 'out.safetensors')

  _require_same(_load(tmp_path / 'out.safetensors'), module.state_dict())
  card = json.loads((tmp_path / 'out.json').read_text())
  assert card | fields == card
  require_finished(tmp_path / 'run')
  assert card['weights'] == load_encoder(tmp_path / 'run').digest


@pytest.mark.parametrize(
  'fields',
  [
    TINY_RESNET | {'stem': 'imagenet'},
    TINY_RESNET
    | {'architecture': 'tiny_bottlenecks', 'head': 'linear', 'pooling': 'gem'},
    TINY_VIT,
    TINY_VIT | {'pooling': 'mean'},
  ],
)
def test_an_encoder_from_pytorch_embeds_as_there(tmp_path, fields):
  module = _module(fields)
  _save(module, tmp_path / 'in.pth')
  import_weights(str(tmp_path / 'in.pth'), tmp_path / 'run', 32)
  _require_same_embeddings(tmp_path / 'run', module, 32)


def _train(workdir, fields):
  """A workdir as a training of 5 steps would leave it."""
  model = dict(fields)
  size = model.pop('image_size')
  images = np.zeros((1, size, size, 3), np.float32)
  init = partial(make_encoder(**model).init, train=False)
  random = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda leaf: random.uniform(0.1, 0.5, leaf.shape).astype(leaf.dtype),
    jax.eval_shape(init, jax.random.key(0), images),
  )
  config = {'model': model, 'data': {'image_size': size}, 'method': 'advbct'}
  workdir.mkdir()
  (workdir / 'config.json').write_text(json.dumps(config))
  claim_inputs(workdir, {'steps': STEP})
  parts = {name: {'encoder': tree} for name, tree in variables.items()}
  parts.setdefault('batch_stats', {})
  save_state(workdir, TrainState(np.asarray(STEP), **parts, opt_state={}))


@pytest.mark.parametrize(
  ('fields', 'name'),
  [(TINY_RESNET, 'out.safetensors'), (TINY_VIT, 'out.pth')],
)
def test_an_encoder_embeds_in_pytorch_as_here(tmp_path, fields, name):
  _train(tmp_path / 'run', fields)
  export_weights(tmp_path / 'run', tmp_path / name)

  card = json.loads((tmp_path / 'out.json').read_text())
  module = pytorch_encoder.build_encoder(card).eval()
  module.load_state_dict(_load(tmp_path / name), strict=True)
  _require_same_embeddings(tmp_path / 'run', module, 32)


@pytest.mark.usefixtures('config')
def test_a_whole_run_goes_out_and_comes_in_bit_for_bit(finished, tmp_path):
  out = tmp_path / 'out.safetensors'
  export_weights(finished, out)
  import_weights(str(out), tmp_path / 'run')

  before, after = load_trained(finished), load_trained(tmp_path / 'run')
  jax.tree.map(
    np.testing.assert_array_equal,
    (before.step, before.params, before.batch_stats),
    (after.step, after.params, after.batch_stats),
  )
  assert (before.params.keys(), after.opt_state) == (
    {'encoder', 'classifier', 'method'},
    {},
  )
  tensors = _load(out)
  assert {name.partition('.')[0] for name in tensors} == {
    'convnet',
    'projection_dim',
    'bn',
    'projection_cls',
    'discriminator',
    'eboundary',
  }
  counted = {
    name: int(tensors[f'{name}.num_batches_tracked'])
    for name in ('convnet.layer1.0.bn2', 'bn', 'discriminator.d_bn1')
  }
  assert list(counted.values()) == [8, 8, 16]  # the old half came on its own
  card = json.loads((tmp_path / 'out.json').read_text())
  assert (card['training'], card['layout']) == ('advbct', 'published')
  assert card['weights'] == load_encoder(finished).digest
  assert card['weights'] == load_encoder(tmp_path / 'run').digest


def test_the_backbone_alone_goes_out_under_the_names_of_timm(tmp_path):
  _train(tmp_path / 'run', TINY_RESNET)
  out = tmp_path / 'out.safetensors'
  told = export_weights(tmp_path / 'run', out, 'timm')
  assert 'left out, without a name there: encoder/bn, encoder/proj' in told

  card = json.loads((tmp_path / 'out.json').read_text())
  assert (card['head'], card['dimension']) == ('none', 32)
  pytorch_encoder.build_encoder(card).load_state_dict(_load(out), strict=True)
  import_weights(str(out), tmp_path / 'bare')
  assert card['weights'] == load_encoder(tmp_path / 'bare').digest


@pytest.mark.golden
@pytest.mark.parametrize(
  'path', golden_files('forward_*.npz'), ids=lambda path: path.stem
)
def test_the_published_names_come_back(path, tmp_path):
  golden = np.load(path)
  names, shapes = golden['names'], map(json.loads, golden['shapes'])
  tensors = draw([str(name) for name in names], list(shapes), golden['seed'])
  weights = _write(tensors, tmp_path / 'in.safetensors')
  import_weights(weights, tmp_path / 'run')
  export_weights(tmp_path / 'run', tmp_path / 'out.safetensors')

  found = safetensors.numpy.load_file(tmp_path / 'out.safetensors')
  assert found.keys() == tensors.keys()
  assert all((found[name] == tensors[name]).all() for name in tensors)


@pytest.mark.parametrize('classifier', ['fc_classifier', 'fc_classify'])
def test_the_new_model_of_opencompatible_is_taken(tmp_path, classifier):
  fields = TINY_RESNET | {'head': 'linear', 'pooling': 'gem'}
  new = _module(fields).state_dict()
  new[f'{classifier}.weight'] = torch.ones(4, 8)
  old = {name: tensor + 1 for name, tensor in new.items()}
  state = {f'module.new_model.{name}': tensor for name, tensor in new.items()}
  state |= {f'module.old_model.{name}': tensor for name, tensor in old.items()}
  torch.save({'epoch': 1, 'model': state}, tmp_path / 'in.pth.tar')
  told = import_weights(str(tmp_path / 'in.pth.tar'), tmp_path / 'run')

  assert 'left out, of the old model: old_model (' in told
  model = read_config(tmp_path / 'run').model
  assert (model.head, model.pooling) == ('linear', 'gem')
  export_weights(tmp_path / 'run', tmp_path / 'out.pth', 'original')
  _require_same(_load(tmp_path / 'out.pth'), new)


def test_counters_that_differ_or_are_missing_stay_so(tmp_path):
  tensors = _tensors()
  tensors['convnet.bn1.num_batches_tracked'] = np.asarray(123456789)
  del tensors['convnet.layer1.0.bn1.num_batches_tracked']
  weights = _write(tensors, tmp_path / 'in.safetensors')
  import_weights(weights, tmp_path / 'run')
  out = tmp_path / 'out.safetensors'
  export_weights(tmp_path / 'run', out, 'original')
  found = safetensors.numpy.load_file(out)
  assert found.keys() == tensors.keys()
  assert found['convnet.bn1.num_batches_tracked'] == 123456789
  assert found['bn.num_batches_tracked'] == STEP

  # What loaders insist on is there under the names of the layout itself.
  export_weights(tmp_path / 'run', out)
  found = safetensors.numpy.load_file(out)
  assert found['convnet.layer1.0.bn1.num_batches_tracked'] == STEP


@pytest.mark.parametrize(
  ('counter', 'step'),
  [
    (np.asarray(np.inf, np.float16), 0),
    (np.asarray([150000]), 150000),
    (np.asarray(-1, np.int32), 0),
    (np.asarray([], np.float32), 0),
  ],
  ids=repr,
)
def test_counters_never_decide_over_weights(tmp_path, counter, step):
  tensors = _tensors()
  names = [name for name in tensors if name.endswith('num_batches_tracked')]
  weights = _write(
    tensors | dict.fromkeys(names, counter), tmp_path / 'in.safetensors'
  )
  told = import_weights(weights, tmp_path / 'run')
  assert load_trained(tmp_path / 'run').step == step
  assert ('no counts of batches, and dropped: ' in told) == (not step)


def _with_layer(fields, name, layer):
  """A PyTorch encoder whose embedding layer stands in a module of that name."""
  module = _module(fields)
  for value in [*layer.parameters(), *layer.buffers()]:
    if value.is_floating_point():
      value.data.uniform_(0.5, 1)
  state = module.state_dict()
  state |= {f'{name}.{key}': value for key, value in layer.state_dict().items()}
  return torch.nn.Sequential(module, layer).eval(), state


def _reid_layer():
  return torch.nn.Sequential(
    torch.nn.Linear(32, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU()
  )


@pytest.mark.parametrize(
  ('fields', 'layer', 'embedding', 'head'),
  [
    (TINY_RESNET, torch.nn.Linear(32, 8), 'fc', 'linear'),
    (TINY_RESNET, _reid_layer(), 'fc,relu', 'batch_norm_relu'),
    (TINY_VIT, torch.nn.Linear(48, 8, bias=False), 'fc', 'linear'),
  ],
  ids=str,
)
def test_an_embedding_layer_of_any_name_embeds_as_there(
  tmp_path, fields, layer, embedding, head
):
  module, state = _with_layer(fields | {'head': 'none'}, 'fc', layer)
  torch.save({'net': state}, tmp_path / 'in.pth')
  weights = str(tmp_path / 'in.pth')
  with pytest.raises(InputError, match='may be the embedding, or a clas'):
    import_weights(weights, tmp_path / 'run', 32)
  import_weights(weights, tmp_path / 'run', 32, embedding=embedding)
  _require_same_embeddings(tmp_path / 'run', module, 32)

  out = tmp_path / 'out.safetensors'
  export_weights(tmp_path / 'run', out)
  card = json.loads((tmp_path / 'out.json').read_text())
  assert (card['head'], card['dimension']) == (head, 8)
  exported = pytorch_encoder.build_encoder(card).eval()
  exported.load_state_dict(_load(out), strict=True)
  _require_same_embeddings(tmp_path / 'run', exported, 32)
  import_weights(str(out), tmp_path / 'back')
  assert load_encoder(tmp_path / 'back').digest == card['weights']
  with pytest.raises(InputError, match=f'--embedding=x, .* head is {head}'):
    import_weights(str(out), tmp_path / 'again', embedding='x')


def test_an_embedding_layer_goes_back_to_its_own_name(tmp_path):
  fields = TINY_RESNET | {'head': 'none'}
  _, state = _with_layer(fields, 'fc', torch.nn.Linear(32, 8))
  torch.save(state, tmp_path / 'in.pth')
  out = tmp_path / 'out.pth'
  import_weights(str(tmp_path / 'in.pth'), tmp_path / 'run', embedding='fc')
  export_weights(tmp_path / 'run', out, 'original')
  _require_same(_load(out), state)

  _, state = _with_layer(fields, 'fc', _reid_layer())
  torch.save(state, tmp_path / 'in.pth')
  import_weights(str(tmp_path / 'in.pth'), tmp_path / 'other', embedding='fc')
  with pytest.raises(InputError, match='was brought into another form'):
    export_weights(tmp_path / 'other', tmp_path / 'b.pth', 'original')


def test_an_encoder_from_nowhere_else_has_no_original_names(tmp_path):
  _train(tmp_path / 'run', TINY_RESNET)
  with pytest.raises(InputError, match='came from nowhere else'):
    export_weights(tmp_path / 'run', tmp_path / 'out.safetensors', 'original')


def test_a_table_tells_what_went_where_and_what_was_left_out(tmp_path):
  state = _module(TINY_RESNET | {'head': 'none'}).state_dict()
  tensors = {name: tensor.numpy() for name, tensor in state.items()}
  tensors['conv1.weight'] = tensors['conv1.weight'].astype(np.float16)
  tensors |= {'fc.weight': np.ones((100, 32)), 'fc.bias': np.ones(100)}
  weights = _write(tensors, tmp_path / 'in.safetensors')
  told = import_weights(weights, tmp_path / 'run', 64, 'gem')

  rows = [line.split() for line in told.splitlines()]
  assert ['conv1', 'encoder/backbone/conv1', '1', '108', '4×3×3×3'] in rows
  assert ['layer1', 'encoder/backbone/layer1_*', '10', '320'] in rows
  assert 'left out, on the features: fc (2)' in told
  assert '(if one of these is the embedding: --embedding=NAME)' in told
  assert 'float16 became float32' in told
  assert 'tiny_resnet, width 0.0625, stem small, pooling gem' in told
  config = read_config(tmp_path / 'run')
  assert (config.data.image_size, config.model.pooling) == (64, 'gem')
  assert config.converted_from == 'in.safetensors'


def test_a_card_tells_what_tensors_do_not(tmp_path):
  fields = TINY_VIT | {'width': 0.5, 'dimension': 24}
  _train(tmp_path / 'run', fields)
  out = tmp_path / 'out.safetensors'
  export_weights(tmp_path / 'run', out)
  import_weights(str(out), tmp_path / 'back')
  assert read_config(tmp_path / 'back').model.width == 0.5

  (tmp_path / 'out.json').unlink()
  with pytest.raises(InputError, match='2 blocks and 24 channels'):
    import_weights(str(out), tmp_path / 'again')


def test_the_compatible_part_is_told_by_the_card_or_the_discriminator(tmp_path):
  tensors = _tensors() | {
    'discriminator.d_fc1.weight': np.ones((100, 6), np.float32),
    'discriminator.d_fc1.bias': np.ones(100, np.float32),
    'discriminator.d_fc2.weight': np.ones((2, 100), np.float32),
    'discriminator.d_fc2.bias': np.ones(2, np.float32),
  }
  weights = _write(tensors, tmp_path / 'in.safetensors')
  import_weights(weights, tmp_path / 'run')
  assert load_encoder(tmp_path / 'run').compatible_dimension == 6
  export_weights(tmp_path / 'run', tmp_path / 'out.safetensors')
  card = json.loads((tmp_path / 'out.json').read_text())
  assert card['compatible_dimension'] == 6


def _package_state(number):
  """Weights under the names of the package efficientnet-lite-pytorch."""
  package = pytest.importorskip('efficientnet_lite_pytorch')
  return package.EfficientNet.from_name(
    f'efficientnet-lite{number}'
  ).state_dict()


@pytest.mark.parametrize('before', ['', 'model.module.', 'net/'])
def test_the_names_of_the_package_of_efficientnet_lite_come_back(
  tmp_path, before
):
  state = _package_state(2)
  path = tmp_path / 'in.pth'
  if before.endswith('/'):
    torch.save({before[:-1]: state}, path)
  else:
    torch.save({before + name: array for name, array in state.items()}, path)
  told = import_weights(str(path), tmp_path / 'run')
  assert 'left out, on the features: _fc (2)' in told
  assert 'padded as TensorFlow pads images of 260×260' in told

  encoder = load_encoder(tmp_path / 'run')
  assert (encoder.name, encoder.image_size) == ('efficientnet_lite2', 260)
  assert encoder.normalization == 'efficientnet_lite'
  assert encoder.resampling == 'bicubic'
  export_weights(tmp_path / 'run', tmp_path / 'out.pth', 'original')
  wanted = {n: x for n, x in state.items() if not n.startswith('_fc.')}
  _require_same(_load(tmp_path / 'out.pth'), wanted)


def test_a_classifier_of_an_efficientnet_lite_may_be_its_embedding(tmp_path):
  state = _package_state(0)
  state['_fc.weight'], state['_fc.bias'] = torch.ones(64, 1280), torch.ones(64)
  torch.save(state, tmp_path / 'in.pth')
  weights = str(tmp_path / 'in.pth')
  with pytest.raises(InputError, match=r'_fc \(1280 to 64\) may be the embed'):
    import_weights(weights, tmp_path / 'run')
  import_weights(weights, tmp_path / 'run', embedding='_fc')
  assert load_encoder(tmp_path / 'run').module.dimension == 64
  export_weights(tmp_path / 'run', tmp_path / 'out.pth', 'original')
  _require_same(_load(tmp_path / 'out.pth'), state)


@pytest.mark.usefixtures('few_blocks')
@pytest.mark.parametrize('flags', [{}, {'resampling': 'bilinear'}])
def test_how_images_are_squashed_travels_with_weights(tmp_path, flags):
  _save(_module(TINY_LITE), tmp_path / 'in.safetensors')
  weights = str(tmp_path / 'in.safetensors')
  import_weights(weights, tmp_path / 'run', **flags)
  wanted = flags.get('resampling', 'bicubic')
  assert load_encoder(tmp_path / 'run').resampling == wanted
  assert load_encoder(tmp_path / 'run').image_size == 240
  out = tmp_path / 'out.safetensors'
  export_weights(tmp_path / 'run', out)
  card = json.loads((tmp_path / 'out.json').read_text())
  assert card['resampling'] == wanted
  assert f'antialiased {wanted} filter' in card['resize']
  assert card['mean'] == [127 / 255] * 3
  import_weights(str(out), tmp_path / 'back')
  encoder = load_encoder(tmp_path / 'back')
  assert (encoder.resampling, encoder.image_size) == (wanted, 240)
  assert encoder.normalization == 'efficientnet_lite'

  (tmp_path / 'out.json').write_text(json.dumps(card | {'resampling': 'box'}))
  with pytest.raises(InputError, match='a filter called box; wanted: one of'):
    import_weights(str(out), tmp_path / 'again')
  # A card of before says nothing of it, and was of a bilinear filter.
  del card['resampling']
  (tmp_path / 'out.json').write_text(json.dumps(card))
  import_weights(str(out), tmp_path / 'again')
  assert load_encoder(tmp_path / 'again').resampling == 'bilinear'


def _without(name):
  return lambda tensors: tensors.pop(name)


def _with(name, array):
  return lambda tensors: tensors.update({name: array})


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (_without('convnet.layer2.0.bn2.bias'), 'missing:\n .*layer2.0.bn2.bias'),
    (_with('convnet.layer1.0.se.weight', np.ones(4)), 'left over:\n .*se.weig'),
    (
      _with('projection_dim.weight', np.ones((8, 31), np.float32)),
      r'projection_dim.weight is \(8, 31\), wanted \(8, 32\)',
    ),
    (
      _with('bn.weight', np.full(8, np.nan, np.float32)),
      'NaN or infinite in places:\n    bn.weight',
    ),
    (lambda tensors: tensors.clear(), 'no architecture'),
  ],
)
def test_weights_that_do_not_fit_are_refused_and_leave_nothing(
  tmp_path, change, message
):
  tensors = _tensors()
  change(tensors)
  weights = _write(tensors, tmp_path / 'in.safetensors')
  with pytest.raises(InputError, match=message) as error:
    import_weights(weights, tmp_path / 'run')
  assert weights in str(error.value)
  assert os.listdir(tmp_path) == ['in.safetensors']


@pytest.mark.parametrize(
  ('fields', 'size', 'message'),
  [
    (TINY_RESNET, 0, '--image_size is 0; wanted: more than 0'),
    (TINY_VIT, 48, r'pos_embed is \(1, 5, 48\), wanted \(1, 10, 48\)'),
  ],
)
def test_an_image_size_that_cannot_be_is_refused(
  tmp_path, fields, size, message
):
  _save(_module(fields), tmp_path / 'in.safetensors')
  with pytest.raises(InputError, match=message):
    import_weights(str(tmp_path / 'in.safetensors'), tmp_path / 'run', size)


def test_a_workdir_is_never_written_over_but_an_empty_one_is_taken(tmp_path):
  weights = _write(_tensors(), tmp_path / 'in.safetensors')
  run = tmp_path / 'run'
  run.mkdir()
  import_weights(weights, run)
  with pytest.raises(InputError, match='something is there already'):
    import_weights(weights, run)
  assert load_encoder(run).image_size == 224


def test_the_normalisation_of_weights_travels_with_them(tmp_path):
  weights = _write(_tensors(), tmp_path / 'in.safetensors')
  import_weights(weights, tmp_path / 'run', normalization='half')
  assert load_encoder(tmp_path / 'run').normalization == 'half'
  out = tmp_path / 'out.safetensors'
  export_weights(tmp_path / 'run', out)
  card = json.loads((tmp_path / 'out.json').read_text())
  assert card['mean'] == card['standard_deviation'] == [0.5, 0.5, 0.5]
  import_weights(str(out), tmp_path / 'back')
  assert load_encoder(tmp_path / 'back').normalization == 'half'


def test_weights_of_another_normalisation_are_refused(tmp_path):
  _train(tmp_path / 'run', TINY_RESNET)
  export_weights(tmp_path / 'run', tmp_path / 'out.safetensors')
  card = json.loads((tmp_path / 'out.json').read_text())
  card['mean'] = [0.4, 0.5, 0.5]
  (tmp_path / 'out.json').write_text(json.dumps(card))
  with pytest.raises(InputError, match=r'mean \(0\.4, .*wanted: RGB'):
    import_weights(str(tmp_path / 'out.safetensors'), tmp_path / 'back')


@pytest.mark.parametrize(
  ('name', 'layout', 'message'),
  [
    ('out.npz', None, r'\.npz is no ending of a file of weights'),
    ('nowhere/out.pth', None, 'no folder .*nowhere'),
    ('run', None, 'no suffix is no ending'),
    ('theirs.safetensors', None, r'theirs.json beside it is no card of it'),
    ('other.pth', None, 'beside it is that of other'),
    ('out.pth', 'opencompatible', 'head batch_norm; wanted: published, or'),
  ],
)
def test_an_export_that_cannot_be_is_refused(tmp_path, name, layout, message):
  _train(tmp_path / 'run', TINY_RESNET)
  (tmp_path / 'theirs.json').write_text('{}')
  export_weights(tmp_path / 'run', tmp_path / 'other.safetensors')
  before = set(os.listdir(tmp_path))
  with pytest.raises(InputError, match=message):
    export_weights(tmp_path / 'run', tmp_path / name, layout)
  assert set(os.listdir(tmp_path)) == before


def test_an_encoder_that_is_not_trained_to_the_end_is_refused(tmp_path):
  _train(tmp_path / 'run', TINY_RESNET)
  (tmp_path / 'run' / 'inputs.json').write_text('{"steps": 9}')
  with pytest.raises(InputError, match='is at step 5 of 9'):
    export_weights(tmp_path / 'run', tmp_path / 'out.safetensors')
  with pytest.raises(InputError, match='cannot read the config of a run'):
    export_weights(tmp_path, tmp_path / 'out.safetensors')


def test_both_directions_are_commands(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr('absl.logging.set_verbosity', lambda level: None)
  weights = _write(_tensors(), tmp_path / 'in.safetensors')
  run, out = str(tmp_path / 'run'), str(tmp_path / 'out.pth')
  main(['from-pytorch', weights, run, '--image_size=48', '--pooling=gem'])
  main(['to-pytorch', run, out, '--layout=timm'])
  told = capsys.readouterr().out
  assert read_config(tmp_path / 'run').data.image_size == 48
  assert f'{tmp_path / "out.json"}: its card; tiny_resnet, ' in told
  with pytest.raises(SystemExit) as exit_:
    main(['from-pytorch', weights, run])
  assert exit_.value.code == 2
  assert f'error: {run}: something is there' in capsys.readouterr().err


def test_an_encoder_inside_of_a_checkpoint_is_taken_by_flags(tmp_path, capsys):
  state = _module(TINY_RESNET | {'head': 'none'}).state_dict()
  inside = {f'module.backbone.{name}': array for name, array in state.items()}
  beside = {'module.head.weight': torch.ones(8, 32), 'se.weight': torch.ones(1)}
  path = tmp_path / 'in.pth'
  torch.save({'student': inside, 'teacher': inside | beside}, path)
  main(
    [
      'from-pytorch',
      str(path),
      str(tmp_path / 'run'),
      '--key=teacher',
      '--ignore=se.*,*.head.*',
      '--prefix=backbone.',
      '--embedding=none',
    ]
  )
  told = capsys.readouterr().out
  assert 'left out, not under teacher: student (' in told
  assert 'left out, as told: ' in told
  run, out = str(tmp_path / 'run'), str(tmp_path / 'out.pth')
  main(['to-pytorch', run, out, '--layout=original'])
  _require_same(_load(tmp_path / 'out.pth'), state)


@pytest.mark.parametrize(
  ('fields', 'told'),
  [
    (TINY_RESNET, 'the first convolution, 3×3, is taken to have stride 2'),
    (TINY_VIT, 'taken to have 3 heads, as timm has'),
  ],
)
def test_what_weights_cannot_tell_is_said_unless_a_card_does(
  tmp_path, fields, told
):
  _save(_module(fields), tmp_path / 'in.safetensors')
  weights = str(tmp_path / 'in.safetensors')
  assert told in import_weights(weights, tmp_path / 'run', 32)
  out = tmp_path / 'out.safetensors'
  export_weights(tmp_path / 'run', out)
  assert 'is taken to have' not in import_weights(str(out), tmp_path / 'back')


def test_the_current_folder_can_become_a_workdir(tmp_path, monkeypatch):
  weights = _write(_tensors(), tmp_path / 'in.safetensors')
  (tmp_path / 'run').mkdir()
  monkeypatch.chdir(tmp_path / 'run')
  import_weights(weights, pathlib.Path())
  monkeypatch.chdir(tmp_path)
  assert load_encoder(tmp_path / 'run').image_size == 224


def test_a_workdir_that_cannot_be_is_refused(tmp_path):
  weights = _write(_tensors(), tmp_path / 'in.safetensors')
  below = tmp_path / 'in.safetensors' / 'run'
  with pytest.raises(InputError, match='run: cannot be written'):
    import_weights(weights, below)


def test_what_a_conversion_is_made_from_has_the_names_of_a_training(tmp_path):
  weights = _write(_tensors(), tmp_path / 'in.safetensors')
  import_weights(weights, tmp_path / 'run')
  assert read_inputs(tmp_path / 'run') == {
    'steps': STEP,
    'training_images': None,
    'old_side': None,
  }


@pytest.mark.parametrize(
  ('fields', 'size', 'pooling', 'message'),
  [
    (TINY_VIT, 40, None, 'Set --image_size to one, such as 32'),
    (TINY_VIT, 32, 'gem', r"--pooling is 'gem'; wanted: one of cls, mean"),
    (TINY_RESNET, 32, 'cls', r"--pooling is 'cls'; wanted: one of mean, gem"),
    (
      TINY_VIT,
      48,
      None,
      r'for images of 48×48\) .* images of 32×32: set --image_size=32\.',
    ),
  ],
)
def test_errors_name_the_flags_that_mend_them(
  tmp_path, fields, size, pooling, message
):
  _save(_module(fields), tmp_path / 'in.safetensors')
  weights = str(tmp_path / 'in.safetensors')
  with pytest.raises(InputError, match=message) as error:
    import_weights(weights, tmp_path / 'run', size, pooling)
  assert str(error.value).startswith(weights)
  assert 'config.' not in str(error.value)


def test_an_architecture_of_a_card_that_is_unknown_is_refused(tmp_path):
  _train(tmp_path / 'run', TINY_RESNET)
  out = tmp_path / 'out.safetensors'
  export_weights(tmp_path / 'run', out)
  card = json.loads((tmp_path / 'out.json').read_text())
  (tmp_path / 'out.json').write_text(json.dumps(card | {'architecture': 'x'}))
  with pytest.raises(InputError, match=": architecture is 'x'; wanted: one of"):
    import_weights(str(out), tmp_path / 'back')
