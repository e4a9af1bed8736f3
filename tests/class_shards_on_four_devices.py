"""Classes cut over four devices train as classes on one.

`parallel_test.py` runs these tests in a process that sees four devices, as it
does those of `on_four_devices.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.class_shards import ClassShards, WholeClasses
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.methods import METHODS, make_method
from advbct_jax.methods.method import OldModel, OldSide, Progress
from advbct_jax.parallel import AXIS, map_step, replicate, shard
from advbct_jax.training.schedules import make_optimizer
from advbct_jax.training.state import create_state, trained_model
from advbct_jax.training.step import train_step
from tests.methods.given_embeddings import batch_of
from tests.on_four_devices import ScaledEmbeddings

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
  )
  step = map_step(
    partial(
      train_step,
      method=make(class_layout=layout, axis_name=AXIS),
      optimizer=optimizer,
      schedule=lambda step: 0.1,
      prepare_images=lambda images, keys: images,
      steps=10,
      steps_per_epoch=5,
    ),
    layout.spec,
  )
  state = layout.place(state)
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
    *(
      (name, 'sgd')
      for name, method in METHODS.items()
      if not method.needs_whole_classes
    ),
  ],
)
def test_cut_classes_train_as_whole_ones(name, optimizer):
  layout = class_shards(name)
  state, logged = take_steps(name, layout, optimizer)
  wanted, wanted_logged = take_steps(name, WholeClasses(CLASSES), optimizer)

  jax.tree.map(
    partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
    jax.device_get((layout.whole(state), logged)),
    jax.device_get((wanted, wanted_logged)),
  )
