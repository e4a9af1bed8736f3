"""One train step against the published PyTorch implementation."""

from functools import partial

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.methods.advbct import AdvBCT
from advbct_jax.methods.method import OldModel, Progress
from advbct_jax.models.encoder import Encoder
from advbct_jax.parallel import AXIS, map_step, replicate, shard
from advbct_jax.training.schedules import make_optimizer
from advbct_jax.training.state import TrainedModel, create_state
from advbct_jax.training.step import train_step
from tests.goldens_folder import golden_files

# The parameter of ours that each of theirs is, and whether it is transposed.
PARAMETERS = {
  'projection_dim.weight': ('encoder/projection/kernel', True),
  'bn.weight': ('encoder/bn/scale', False),
  'bn.bias': ('encoder/bn/bias', False),
  'projection_cls.weight': ('classifier/kernel', True),
  'discriminator.d_fc1.weight': ('method/discriminator/fc1/kernel', True),
  'discriminator.d_fc1.bias': ('method/discriminator/fc1/bias', False),
  'discriminator.d_bn1.weight': ('method/discriminator/bn1/scale', False),
  'discriminator.d_bn1.bias': ('method/discriminator/bn1/bias', False),
  'discriminator.d_fc2.weight': ('method/discriminator/fc2/kernel', True),
  'discriminator.d_fc2.bias': ('method/discriminator/fc2/bias', False),
  'eboundary.weight': ('method/boundary', False),
}
BUFFERS = {
  'bn.running_mean': 'encoder/bn/mean',
  'bn.running_var': 'encoder/bn/var',
  'discriminator.d_bn1.running_mean': 'method/discriminator/bn1/mean',
  'discriminator.d_bn1.running_var': 'method/discriminator/bn1/var',
}


class GivenFeatures(nn.Module):
  """A backbone whose features are its input."""

  def __call__(self, images, train):
    return images


def get(tree, path):
  for name in path.split('/'):
    tree = tree[name]
  return np.asarray(tree)


def put(tree, path, value):
  *names, last = path.split('/')
  for name in names:
    tree = tree.setdefault(name, {})
  tree[last] = jnp.asarray(value)


def assert_close(found, wanted, tolerance=1e-4):
  """Relative to the largest figure of the array, so zeros compare too."""
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)


@pytest.fixture(
  scope='module',
  params=golden_files('step_advbct*.npz'),
  ids=lambda path: path.stem,
)
def golden(request):
  with np.load(request.param) as figures:
    return dict(figures)


@pytest.fixture(scope='module')
def stepped(golden):
  """The state before and after the golden step, its metrics and gradients."""
  old_classes = int(golden['C_old'])
  statistics = class_statistics(
    golden['old_embeddings'], golden['old_labels'], old_classes
  )
  classes = int(golden['C_new'])
  numbers = np.arange(classes)
  old = OldModel(statistics, np.where(numbers < old_classes, numbers, -1))

  def make_model(axis_name):
    return TrainedModel(
      encoder=Encoder(GivenFeatures(), golden['feat_old'].shape[1], axis_name),
      method=AdvBCT(classes, float(golden['threshold']), axis_name=axis_name),
      classes=classes,
      axis_name=axis_name,
    )

  optimizer = make_optimizer(float(golden['loss/lr']), 0.9, 5e-4)
  steps_per_epoch = int(golden['steps_per_epoch'])
  steps = int(golden['epochs']) * steps_per_epoch
  step = int(golden['epoch']) * steps_per_epoch + int(golden['step_in_epoch'])
  batch = {
    'image': golden['x'],
    'label': golden['labels'].astype(np.int32),
    'old_embedding': golden['feat_old'],
    'row': np.arange(len(golden['x']), dtype=np.int32),
  }
  inputs = (
    batch['image'],
    batch['label'],
    batch['old_embedding'],
    old,
    Progress(jnp.asarray(step), steps, steps_per_epoch),
  )
  state = create_state(make_model(None), optimizer, inputs, seed=0)
  params, batch_stats = {}, {}
  for theirs, (ours, transposed) in PARAMETERS.items():
    value = golden[f'param/{theirs}']
    put(params, ours, value.T if transposed else value)
  for theirs, ours in BUFFERS.items():
    put(batch_stats, ours, golden[f'buffer/{theirs}'])
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(
    jnp.shape, state.params
  )
  state = state.replace(
    step=jnp.asarray(step, jnp.int32), params=params, batch_stats=batch_stats
  )
  gradients = jax.grad(
    lambda p: make_model(None).apply(
      {'params': p, 'batch_stats': batch_stats},
      *inputs,
      mutable=['batch_stats'],
    )[0][0]
  )(params)
  mapped = map_step(
    partial(
      train_step,
      model=make_model(AXIS),
      optimizer=optimizer,
      prepare_images=lambda images, keys: images,
      seed=0,
      steps=steps,
      steps_per_epoch=steps_per_epoch,
    )
  )
  after, metrics = mapped(replicate(state), shard(batch), replicate(old))
  return after, metrics, gradients


@pytest.mark.golden
def test_losses_are_those_of_the_published_code(golden, stepped):
  _, metrics, _ = stepped
  for theirs, ours in {
    'cls_loss': 'classification_loss',
    'model_cls_loss': 'adversarial_loss',
    'comp_ours': 'boundary_loss',
    'total_loss': 'loss',
  }.items():
    assert float(metrics[ours]) == pytest.approx(
      float(golden[f'loss/{theirs}']), rel=1e-5
    ), theirs


@pytest.mark.golden
def test_gradients_are_those_of_the_published_code(golden, stepped):
  _, _, gradients = stepped
  for theirs, (ours, transposed) in PARAMETERS.items():
    found, wanted = get(gradients, ours), golden[f'grad/{theirs}']
    if theirs == 'discriminator.d_fc1.bias':  # in front of a BatchNorm
      np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    else:
      assert_close(found.T if transposed else found, wanted)


@pytest.mark.golden
def test_updated_parameters_are_those_of_the_published_code(golden, stepped):
  after, _, _ = stepped
  for key in golden:
    if key.startswith('param_after/'):
      ours, transposed = PARAMETERS[key.removeprefix('param_after/')]
      found = get(after.params, ours)
      assert_close(found.T if transposed else found, golden[key])


@pytest.mark.golden
def test_running_statistics_are_those_of_the_published_code(golden, stepped):
  after, _, _ = stepped
  for theirs, ours in BUFFERS.items():
    found, wanted = (
      get(after.batch_stats, ours),
      golden[f'buffer_after/{theirs}'],
    )
    if theirs.endswith('running_var'):
      # PyTorch averages the unbiased variance, Flax the biased one.
      n = len(golden['x'])
      kept = 0.81 if 'discriminator' in theirs else 0.9
      kept_part = kept * golden[f'buffer/{theirs}']
      wanted = kept_part + (wanted - kept_part) * (n - 1) / n
    assert_close(found, wanted)
