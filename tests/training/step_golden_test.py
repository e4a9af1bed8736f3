"""One train step against the published PyTorch implementation."""

from functools import partial

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.methods import METHODS, make_method
from advbct_jax.methods.method import Batch, OldModel, Progress
from advbct_jax.models.encoder import Encoder
from advbct_jax.parallel import AXIS, map_step, replicate, shard
from advbct_jax.training.schedules import make_optimizer
from advbct_jax.training.state import create_state, trained_model
from advbct_jax.training.step import train_step
from tests.goldens_folder import golden_files

# Their names of losses, parameters and running statistics, and ours. A file has
# those of its method alone.
LOSSES = {
  'cls_loss': 'classification_loss',
  'model_cls_loss': 'adversarial_loss',
  'comp_ours': 'boundary_loss',
  'comp_bct_loss': 'influence_loss',
  'comp_lce_boundaryloss': 'boundary_loss',
  'comp_lce_alignment_loss': 'alignment_loss',
  'comp_hot_refresh_loss': 'contrast_loss',
  'total_loss': 'loss',
}
PARAMETERS = {
  'projection_dim.weight': 'encoder/projection/kernel',
  'bn.weight': 'encoder/bn/scale',
  'bn.bias': 'encoder/bn/bias',
  'projection_cls.weight': 'classifier/kernel',
  'discriminator.d_fc1.weight': 'method/discriminator/fc1/kernel',
  'discriminator.d_fc1.bias': 'method/discriminator/fc1/bias',
  'discriminator.d_bn1.weight': 'method/discriminator/bn1/scale',
  'discriminator.d_bn1.bias': 'method/discriminator/bn1/bias',
  'discriminator.d_fc2.weight': 'method/discriminator/fc2/kernel',
  'discriminator.d_fc2.bias': 'method/discriminator/fc2/bias',
  'eboundary.weight': 'method/boundary',
}
STATISTICS = {
  'bn.running_mean': 'encoder/bn/mean',
  'bn.running_var': 'encoder/bn/var',
  'discriminator.d_bn1.running_mean': 'method/discriminator/bn1/mean',
  'discriminator.d_bn1.running_var': 'method/discriminator/bn1/var',
}


class GivenFeatures(nn.Module):
  """A backbone whose features are its input."""

  def __call__(self, images, train):
    return images


class GoldenStep:
  """The published step, set up as one of ours.

  Attributes:
    batch: what it was given.
    old: what was known of the old model.
    progress: where in the training it was taken.
    variables: parameters and running statistics before it.
  """

  def __init__(self, name, golden):
    self._golden = golden
    self._method = next(
      method for method in METHODS if name.startswith(f'step_{method}')
    )
    steps_per_epoch = int(golden['steps_per_epoch'])
    step = int(golden['epoch']) * steps_per_epoch + int(golden['step_in_epoch'])
    self.progress = Progress(
      jnp.asarray(step, jnp.int32),
      int(golden['epochs']) * steps_per_epoch,
      steps_per_epoch,
    )
    self.batch = {
      'image': golden['x'],
      'label': golden['labels'].astype(np.int32),
      'old_embedding': golden['feat_old'],
      'row': np.arange(len(golden['x']), dtype=np.int32),
      'other_embeddings': {},
    }
    old_classes = int(golden['C_old'])
    numbers = np.arange(int(golden['C_new']))
    self.old = OldModel(
      class_statistics(
        golden['old_embeddings'], golden['old_labels'], old_classes
      ),
      np.where(numbers < old_classes, numbers, -1),
      golden['old_classifier'],
    )
    self.variables = {
      'params': _take(golden, 'param', PARAMETERS),
      'batch_stats': _take(golden, 'buffer', STATISTICS),
    }

  @property
  def inputs(self):
    """The arguments of the model."""
    samples = Batch(
      self.batch['image'],
      self.batch['label'],
      self.batch['row'],
      self.batch['old_embedding'],
      {},
      jax.random.key(0),
    )
    return samples, self.old, self.progress

  def method(self, axis_name):
    """What is trained, on a mapped axis or outside of any."""
    dimension = self.batch['old_embedding'].shape[1]
    options = {}
    if self._method == 'advbct':
      options['threshold'] = float(self._golden['threshold'])
    return make_method(
      self._method,
      Encoder(GivenFeatures(), dimension, axis_name=axis_name),
      int(self._golden['C_new']),
      options,
      axis_name=axis_name,
    )

  def gradients(self):
    """The gradients of the total loss."""

    def loss_fn(params):
      outcome, _ = trained_model(self.method(None)).apply(
        self.variables | {'params': params},
        *self.inputs,
        mutable=['batch_stats'],
      )
      return outcome.loss

    return jax.jit(jax.grad(loss_fn))(self.variables['params'])

  def take(self):
    """Takes the step; returns the state after it, and its metrics."""
    rate = float(self._golden['loss/lr'])
    optimizer = make_optimizer(rate, 0.9, 5e-4)
    model = trained_model(self.method(None))
    shapes = jax.eval_shape(
      partial(create_state, model, optimizer, seed=0), self.inputs
    )
    # No momentum and no memory yet; the parameters are not those of a draw.
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    assert _shapes(state.params) == _shapes(self.variables['params'])
    assert _shapes(state.batch_stats) == _shapes(self.variables['batch_stats'])
    step = map_step(
      partial(
        train_step,
        method=self.method(AXIS),
        optimizer=optimizer,
        schedule=lambda step: rate,
        prepare_images=lambda images, keys: images,
        steps=self.progress.steps,
        steps_per_epoch=self.progress.steps_per_epoch,
      )
    )
    # The step gives up its state, so that is a copy.
    given_up = {'step': self.progress.step} | self.variables
    state = state.replace(**jax.tree.map(jnp.array, given_up))
    constants = replicate((self.old, jax.random.key(0)))
    return step(replicate(state), shard(self.batch), *constants)


def _take(golden, kind, names):
  """Their figures of a kind as a tree of ours."""
  flat = {
    ours: _as_ours(golden[f'{kind}/{theirs}'])
    for theirs, ours in names.items()
    if f'{kind}/{theirs}' in golden
  }
  return traverse_util.unflatten_dict(flat, sep='/')


def _as_ours(figures):
  """PyTorch's linear weights are [out, in], Flax's kernels [in, out]."""
  return figures.T


def _shapes(tree):
  return jax.tree.map(jnp.shape, tree)


def _get(tree, path):
  return np.asarray(traverse_util.flatten_dict(tree, sep='/')[path])


def _assert_close(found, wanted):
  """To 1e-4 of the largest figure of the array, so that zeros compare too."""
  tolerance = 1e-4 * np.abs(wanted).max()
  np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


@pytest.fixture(
  scope='module',
  params=golden_files('step_*.npz'),
  ids=lambda path: path.stem,
)
def path(request):
  return request.param


@pytest.fixture(scope='module')
def golden(path):
  with np.load(path) as figures:
    return dict(figures)


@pytest.fixture(scope='module')
def step(path, golden):
  return GoldenStep(path.stem, golden)


@pytest.fixture(scope='module')
def taken(step):
  return step.take()


@pytest.mark.golden
def test_losses_are_those_of_the_published_code(golden, taken):
  _, metrics = taken
  found = {theirs for theirs in LOSSES if f'loss/{theirs}' in golden}
  assert {'cls_loss', 'total_loss'} <= found
  for theirs in found:
    ours = LOSSES[theirs]
    wanted = float(golden[f'loss/{theirs}'])
    assert float(metrics[ours]) == pytest.approx(wanted, rel=1e-5), theirs


@pytest.mark.golden
def test_gradients_are_those_of_the_published_code(golden, step):
  gradients = step.gradients()
  for theirs, ours in PARAMETERS.items():
    if f'grad/{theirs}' not in golden:
      continue
    found, wanted = _get(gradients, ours), _as_ours(golden[f'grad/{theirs}'])
    if theirs == 'discriminator.d_fc1.bias':  # 0, in front of a BatchNorm
      np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    else:
      _assert_close(found, wanted)


@pytest.mark.golden
def test_updated_parameters_are_those_of_the_published_code(golden, taken):
  after, _ = taken
  updated = [key for key in golden if key.startswith('param_after/')]
  assert updated
  for key in updated:
    ours = PARAMETERS[key.removeprefix('param_after/')]
    _assert_close(_get(after.params, ours), _as_ours(golden[key]))


@pytest.mark.golden
def test_running_statistics_are_those_of_the_published_code(golden, taken):
  after, _ = taken
  for theirs, ours in STATISTICS.items():
    if f'buffer_after/{theirs}' not in golden:
      continue
    wanted = golden[f'buffer_after/{theirs}']
    if theirs.endswith('running_var'):
      # PyTorch averages the unbiased variance, Flax the biased one. The
      # discriminator's statistics have seen two halves, so 0.9² is left.
      images = len(golden['x'])
      kept = 0.9**2 if 'discriminator' in theirs else 0.9
      before = kept * golden[f'buffer/{theirs}']
      wanted = before + (wanted - before) * (images - 1) / images
    _assert_close(_get(after.batch_stats, ours), wanted)
