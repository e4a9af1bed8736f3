from functools import partial
import json
import math
import re

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch

from advbct_jax.errors import InputError
from advbct_jax.experiment import train_and_judge
from advbct_jax.models import vit
from advbct_jax.models.encoder import make_encoder
from advbct_jax.models.vit import VITS, VisionTransformer
from advbct_jax.training.checkpoints import load_encoder
from advbct_jax.training.logging import read_metrics
from examples import pytorch_encoder
from tests.goldens.weights import draw


@pytest.fixture(autouse=True)
def _tiny_architecture(monkeypatch):
  monkeypatch.setitem(
    vit.VITS,
    'tiny_vit',
    partial(VisionTransformer, depth=2, heads=3, channels=48),
  )
  monkeypatch.setitem(pytorch_encoder.VITS, 'tiny_vit', (48, 2, 3))


def _pytorch_vit(image_size, pooling, width=1.0):
  """PyTorch's module, with random weights in all places."""
  module = pytorch_encoder.VisionTransformer(
    'tiny_vit', width, image_size, pooling
  )
  shapes = {name: tuple(x.shape) for name, x in module.state_dict().items()}
  tensors = draw(list(shapes), list(shapes.values()), seed=0)
  module.load_state_dict(
    {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
  )
  return module.eval()


def _our_params(module):
  params = {}
  for name, tensor in module.state_dict().items():
    name = name.replace('patch_embed.proj', 'patch_embed')
    name = re.sub(r'blocks\.(\d+)\.(attn\.|mlp\.)?', r'blocks_\1.', name)
    kind = 'scale' if 'norm' in name else 'kernel'
    name = name.replace('.weight', f'.{kind}')
    axes = {'kernel': (2, 3, 1, 0) if tensor.ndim == 4 else (1, 0)}
    leaf = name.split('.')[-1]
    params[name] = tensor.numpy().transpose(axes.get(leaf, range(tensor.ndim)))
  return traverse_util.unflatten_dict(params, sep='.')


def _images(height, width=None, batch=2):
  shape = (batch, height, width or height, 3)
  return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def _pytorch_features(module, images):
  with torch.no_grad():
    return module(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()


def _features(theirs, images, **options):
  module = VITS['tiny_vit'](**options)
  apply = jax.jit(partial(module.apply, train=False))
  return apply({'params': _our_params(theirs)}, images)


def _outline(module, side):
  """Shapes and dtypes of outputs and variables; nothing is computed."""
  return jax.eval_shape(
    partial(module.init_with_output, train=True),
    jax.random.key(0),
    jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32),
  )


def _assert_agree(found, wanted, tolerance=1e-5):
  assert found.shape == wanted.shape
  error = np.abs(np.asarray(found, np.float32) - wanted).max()
  assert error <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize('pooling', ['cls', 'mean'])
@pytest.mark.parametrize(
  ('height', 'columns', 'width'),
  [
    (16, 16, 1.0),
    (48, 48, 1.0),
    (16, 64, 1.0),  # four patches, as 32×32 has
    (64, 16, 1.0),
    (32, 32, 0.5),
  ],
)
def test_features_are_those_of_pytorch(height, columns, width, pooling):
  theirs = _pytorch_vit(math.isqrt(height * columns), pooling, width)
  images = _images(height, columns)
  found = _features(theirs, images, width=width, pooling=pooling)
  _assert_agree(found, _pytorch_features(theirs, images))


def test_features_agree_where_tokens_are_far_from_zero():
  theirs = _pytorch_vit(48, 'cls')
  with torch.no_grad():
    theirs.pos_embed += 30
  images = _images(48)
  found = _features(theirs, images)
  _assert_agree(found, _pytorch_features(theirs, images), 5e-4)


@pytest.mark.parametrize(
  ('name', 'features', 'parameters'),
  [
    ('vit_small_patch16', 384, 21_665_664),
    ('vit_base_patch16', 768, 85_798_656),
  ],
)
@pytest.mark.parametrize('pooling', ['cls', 'mean'])
def test_backbones_have_as_many_parameters_as_timms(
  name, features, parameters, pooling
):
  pooled, variables = _outline(VITS[name](pooling=pooling), 224)
  assert pooled.shape == (2, features)
  assert list(variables) == ['params']
  leaves = jax.tree.leaves(variables)
  assert sum(math.prod(leaf.shape) for leaf in leaves) == parameters


@pytest.mark.parametrize('pooling', ['cls', 'mean'])
def test_the_parameters_are_named_for_timms(pooling):
  theirs = _pytorch_vit(48, pooling)
  _, variables = _outline(VITS['tiny_vit'](pooling=pooling), 48)
  assert jax.tree.map(jnp.shape, variables['params']) == jax.tree.map(
    jnp.shape, _our_params(theirs)
  )


def test_fresh_parameters_are_drawn_as_timm_draws_them():
  module = VisionTransformer(depth=1, heads=2, channels=96)
  params = jax.jit(partial(module.init, train=False))(
    jax.random.key(0), _images(64)
  )['params']
  deviations = {
    'cls_token': 1e-6,
    'pos_embed': 0.02,
    'patch_embed/kernel': (3 * 16 * 16 * 3) ** -0.5,  # uniform
    'patch_embed/bias': (3 * 16 * 16 * 3) ** -0.5,
    'blocks_0/qkv/kernel': 0.02,
    'blocks_0/proj/kernel': 0.02,
    'blocks_0/fc1/kernel': 0.02,
    'blocks_0/fc2/kernel': 0.02,
    'blocks_0/fc2/bias': 0,
    'norm/bias': 0,
  }
  flat = traverse_util.flatten_dict(params, sep='/')
  for name, deviation in deviations.items():
    assert flat[name].std() == pytest.approx(deviation, rel=0.15), name
    assert abs(flat[name].mean()) <= deviation / 4, name
  bound = (16 * 16 * 3) ** -0.5
  for name in ('patch_embed/kernel', 'patch_embed/bias'):
    assert 0.9 * bound < abs(flat[name]).max() <= bound
  assert (flat['norm/scale'] == 1).all()


@pytest.mark.parametrize('pooling', ['cls', 'mean'])
def test_bfloat16_is_close(pooling):
  theirs = _pytorch_vit(48, pooling)
  images = _images(48)
  found = _features(theirs, images, pooling=pooling, dtype=jnp.bfloat16)
  assert found.dtype == jnp.bfloat16
  _assert_agree(found, _pytorch_features(theirs, images), 0.03)


def test_bfloat16_keeps_parameters_softmax_and_variances_in_float32():
  module = VITS['tiny_vit'](dtype=jnp.bfloat16)
  _, variables = _outline(module, 32)
  kept = {leaf.dtype for leaf in jax.tree.leaves(variables)}
  assert kept == {jnp.dtype('float32')}
  traced = str(
    jax.make_jaxpr(partial(module.apply, train=True))(variables, _images(32))
  )
  computed = set(re.findall(r':(\w+)\[[\d,]*\] = (exp|rsqrt|erfc) ', traced))
  assert computed == {('f32', 'exp'), ('f32', 'rsqrt'), ('bf16', 'erfc')}


@pytest.mark.parametrize('pooling', ['cls', 'mean'])
def test_gradients_reach_every_parameter(pooling):
  module = VITS['tiny_vit'](pooling=pooling)
  params = _our_params(_pytorch_vit(32, pooling))

  def loss(params):
    features = module.apply({'params': params}, _images(32), train=True)
    return jnp.square(features - 1).sum()

  gradients = jax.jit(jax.grad(loss))(params)
  gradients = traverse_util.flatten_dict(gradients, sep='/')
  assert [name for name, x in gradients.items() if abs(x).max() < 1e-4] == []
  # And each of query, key and value.
  for part in jnp.split(gradients['blocks_1/qkv/kernel'], 3, axis=1):
    assert abs(part).max() > 1e-4


@pytest.mark.parametrize(
  ('height', 'width', 'advice'),
  [(30, 30, 'such as 32'), (32, 40, 'such as 32'), (4, 16, 'such as 16')],
)
def test_sides_that_are_no_multiple_of_a_patch_are_refused(
  height, width, advice
):
  with pytest.raises(InputError) as refusal:
    VITS['tiny_vit']().init(
      jax.random.key(0), _images(height, width), train=False
    )
  message = str(refusal.value)
  assert message.startswith(f'Images are {height}×{width}; wanted')
  assert f'config.data.image_size to one, {advice}.' in message


@pytest.mark.parametrize(
  ('width', 'channels'), [(1.03, 791), (1 / 3, 256), (0.0001, 0)]
)
def test_a_width_that_the_heads_cannot_share_is_refused(width, channels):
  with pytest.raises(InputError) as refusal:
    _outline(VITS['vit_base_patch16'](width=width), 16)
  assert str(refusal.value) == (
    f'config.model.width is {width}, which makes tokens of {channels} '
    'channels; wanted: a multiple of the 12 heads. Set it to a multiple of '
    '12/768.'
  )


def test_width_scales_tokens_and_keeps_the_heads():
  pooled, variables = _outline(VITS['vit_base_patch16'](width=0.25), 32)
  assert pooled.shape == (2, 192)
  block = variables['params']['blocks_11']
  assert block['qkv']['kernel'].shape == (192, 3 * 192)
  assert block['fc1']['kernel'].shape == (192, 4 * 192)


@pytest.mark.parametrize('pooling', ['auto', 'cls', 'mean'])
@pytest.mark.parametrize(
  ('head', 'dimension', 'layers'),
  [
    ('batch_norm', 8, {'projection', 'bn'}),
    ('linear', 8, {'projection'}),
    ('none', 384, set()),
  ],
)
def test_an_encoder_can_be_a_vision_transformer(
  head, dimension, layers, pooling
):
  module = make_encoder(
    'vit_small_patch16', pooling=pooling, head=head, dimension=dimension
  )
  embeddings, variables = _outline(module, 32)
  assert embeddings.shape == (2, dimension)
  assert embeddings.dtype == jnp.float32
  assert variables['params'].keys() == {'backbone'} | layers
  norm = 'fc_norm' if pooling == 'mean' else 'norm'
  assert norm in variables['params']['backbone']


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'stem': 'small'},
      "config.model.stem is 'small'; wanted: one of imagenet",
    ),
    ({'pooling': 'gem'}, "config.model.pooling is 'gem'; wanted: one of cls,"),
  ],
)
def test_what_only_a_resnet_has_is_refused(options, message):
  with pytest.raises(InputError) as refusal:
    make_encoder('vit_small_patch16', **options)
  assert str(refusal.value).startswith(message)


def test_a_vision_transformer_is_trained_from_pytorchs_weights_and_judged(
  config, tmp_path
):
  theirs = _pytorch_vit(32, 'mean')
  safetensors.torch.save_file(theirs.state_dict(), tmp_path / 'vit.safetensors')
  config.method = 'independent'
  config.model.update(
    architecture='tiny_vit',
    width=1.0,
    stem='imagenet',
    pooling='mean',
    head='none',  # not a single BatchNorm in all of the encoder
    dimension=48,
    init_weights=str(tmp_path / 'vit.safetensors'),
  )
  config.data.image_size = 32
  config.epochs = 1
  config.optimizer.learning_rate = 1e-6
  workdir = tmp_path / 'workdir'
  train_and_judge(config, workdir)

  assert all(math.isfinite(line['loss']) for line in read_metrics(workdir))
  results = json.loads((workdir / 'results.json').read_text())
  assert 'self' in results['datasets']['tiny']
  encoder = load_encoder(workdir)
  images = _images(32)
  found = encoder.module.apply(encoder.variables, images, train=False)
  _assert_agree(found, _pytorch_features(theirs, images), 1e-2)
