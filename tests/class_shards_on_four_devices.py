"""Classes cut over four devices train as classes on one.

`parallel_test.py` runs these tests as it does those of `on_four_devices.py`.
"""

from functools import partial
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.class_shards import ClassShards, WholeClasses
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.errors import StoppedError
from advbct_jax.methods import METHODS, make_method
from advbct_jax.methods.method import OldModel, OldSide, Progress
from advbct_jax.parallel import AXIS, replicate, shard
from advbct_jax.training.checkpoints import load_trained
from advbct_jax.training.logging import MetricsLog, read_metrics
from advbct_jax.training.loop import train
from advbct_jax.training.schedules import make_optimizer
from advbct_jax.training.state import create_state, trained_model
from advbct_jax.training.step import train_step
from tests.methods.given_embeddings import batch_of
from tests.on_four_devices import ScaledEmbeddings
from tests.training.small_runs import noise_run

# Of 3 places a device the last two have no class.
CLASSES, STEPS = 10, 4

_OPTIONS = {
  'advbct': {'threshold': 0.9},
  'mixbct': {'margin_scale': 4.0, 'ratio': 0.4},
  'contrastive': {'temperature': 0.5},
  'hot_refresh': {'temperature': 0.5, 'negatives': 3},
  'lwf': {'temperature': 1.0},
  'ndpp': {'temperature': 1.0},
  'odpp': {'temperature': 1.0},
  'unibct': {'scale': 2},
}


def take_steps(name, layout, optimizer='sgd'):
  """Trains a method on noise.

  Returns:
    The state as it is stored, and the metrics of each step.
  """
  random = np.random.default_rng(0)
  labels = np.arange(16, dtype=np.int32) % CLASSES
  old_embeddings = random.normal(size=(16, 6)).astype(np.float32)
  statistics = class_statistics(
    random.normal(size=(40, 6)).astype(np.float32), np.arange(40) % 7, 7
  )
  old = OldModel(statistics, np.arange(CLASSES) % 8 - 1)
  side = OldSide(old_embeddings, labels, old.old_class[labels], old)
  batch = {
    'image': random.normal(1, 3, (16, 6)).astype(np.float32),
    'label': labels,
    'old_embedding': old_embeddings,
    'row': np.arange(16, dtype=np.int32),
    'other_embeddings': {},
  }
  make = partial(
    make_method, name, ScaledEmbeddings(), CLASSES, _OPTIONS.get(name, {})
  )
  old = old.replace(prepared=make().prepare(side))
  optimizer = make_optimizer(0.05, 0.9, 5e-4, optimizer)
  state = create_state(
    trained_model(make()),
    optimizer,
    (
      batch_of(batch['image'], labels, old_embeddings),
      old,
      Progress(jnp.asarray(0), 10, 5),
    ),
    seed=0,
    layout=layout,
  )
  step = layout.map_step(
    partial(
      train_step,
      method=make(class_layout=layout, axis_name=AXIS),
      optimizer=optimizer,
      schedule=lambda step: 0.1,
      prepare_images=lambda images, keys: images,
      steps=10,
      steps_per_epoch=5,
    )
  )
  constants = replicate((old, jax.random.key(0)))
  logged = []
  for _ in range(STEPS):
    state, metrics = step(state, shard(batch), *constants)
    logged.append(jax.device_get(metrics))
  return state, logged


def class_shards(name):
  return ClassShards(CLASSES, 4, METHODS[name].class_parameters)


@pytest.mark.parametrize(
  ('name', 'optimizer'),
  [
    ('independent', 'adamw'),
    ('advbct', 'sgd'),  # with a parameter of each class
    ('lce', 'sgd'),  # which looks weights up
    ('mixbct', 'sgd'),  # with a margin
  ],
)
def test_cut_classes_train_as_whole_ones(name, optimizer):
  layout = ClassShards(CLASSES, 4, METHODS[name].class_parameters)
  state, logged = take_steps(name, layout, optimizer)
  wanted, wanted_logged = take_steps(name, WholeClasses(CLASSES), optimizer)

  assert 0 < wanted_logged[-1]['accuracy'] < 1
  jax.tree.map(
    partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
    jax.device_get((layout.whole(state), logged)),
    jax.device_get((wanted, wanted_logged)),
  )


def test_a_device_has_its_shard_and_no_more():
  layout = ClassShards(CLASSES, 4, ('boundary',))
  kernel = np.arange(60.0, dtype=np.float32).reshape(6, CLASSES)
  params = {
    'encoder': {'classifier': {'kernel': kernel}},
    'classifier': {'kernel': kernel},
    'method': {'boundary': kernel[0], 'other': kernel[0]},
  }

  placed = layout.place((params,))

  last = jax.tree.map(
    lambda array: np.asarray(array.addressable_shards[-1].data),
    placed[0],
  )
  padding = ((0, 0), (0, 2))
  np.testing.assert_equal(
    last,
    {
      'encoder': {'classifier': {'kernel': kernel}},
      'classifier': {'kernel': np.pad(kernel[:, 9:], padding)},
      'method': {'boundary': [9, 0, 0], 'other': kernel[0]},
    },
  )
  np.testing.assert_equal(jax.device_get(layout.whole(placed)), (params,))


def _train_until(step, run, workdir):
  """Trains as far as a step, after which a signal stops it."""
  add = MetricsLog.add

  def add_and_stop(log, taken, metrics):
    add(log, taken, metrics)
    if taken == step:
      signal.raise_signal(signal.SIGTERM)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(MetricsLog, 'add', add_and_stop)
    with pytest.raises(StoppedError):
      train(run, workdir)


def test_a_run_goes_on_with_other_shards_or_none(config, tmp_path):
  config.advbct.adversarial_weight = 0.0
  config.optimizer.learning_rate = 0.01
  config.data.augmentation = 'none'
  run = noise_run(config, classes=CLASSES)
  wanted = tmp_path / 'wanted'
  train(run, wanted)

  config.shard_classes = True
  cut = noise_run(config, classes=CLASSES)
  workdir = tmp_path / 'cut'
  _train_until(1, cut, workdir)
  stored = load_trained(workdir).params
  assert stored['classifier']['kernel'].shape == (8, CLASSES)
  assert stored['method']['boundary'].shape == (CLASSES,)
  with pytest.MonkeyPatch.context() as patch:
    two = jax.devices()[:2]
    patch.setattr(jax, 'local_devices', lambda: two)
    patch.setattr(jax, 'local_device_count', lambda: 2)
    _train_until(2, cut, workdir)
  _train_until(3, run, workdir)
  train(cut, workdir)

  for here, there in zip(
    read_metrics(workdir), read_metrics(wanted), strict=True
  ):
    del here['images_per_second'], there['images_per_second']
    assert here == pytest.approx(there, rel=1e-5, abs=1e-5)
  here, there = (load_trained(each) for each in (workdir, wanted))
  jax.tree.map(
    partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
    (here.params, here.batch_stats),
    (there.params, there.batch_stats),
  )
