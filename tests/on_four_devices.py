"""What must not depend on the number of devices.

`parallel_test.py` runs these tests in a process that sees four:

    XLA_FLAGS=--xla_force_host_platform_device_count=4 \
      python -m pytest -n 0 tests/on_four_devices.py
"""

from functools import partial

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.embeddings.extract import extract
from advbct_jax.methods import make_method
from advbct_jax.methods.method import OldModel, OldSide, Progress
from advbct_jax.models.efficientnet_lite import EfficientNetLite, Stage
from advbct_jax.parallel import AXIS, global_mean, map_step, replicate, shard
from advbct_jax.training.schedules import make_optimizer
from advbct_jax.training.state import create_state, trained_model
from advbct_jax.training.step import train_step
from tests.embeddings.tiny_encoder import (
  embed_directly,
  image_set,
  tiny_encoder,
)
from tests.methods.given_embeddings import PrunedEmbeddings, batch_of


class ScaledEmbeddings(nn.Module):
  """An encoder that gives back its input, each component scaled."""

  @nn.compact
  def __call__(self, images, train):
    return images * self.param(
      'scale', nn.initializers.uniform(1.0), images.shape[1:]
    )


def test_there_are_four_devices():
  assert jax.local_device_count() == 4


def test_a_batch_is_cut_in_order():
  cut = shard({'x': np.arange(24).reshape(8, 3)})
  assert cut['x'].shape == (4, 2, 3)
  np.testing.assert_array_equal(cut['x'][1], [[6, 7, 8], [9, 10, 11]])


def test_a_replicated_array_lies_whole_on_every_device():
  array = replicate(jnp.arange(3))
  assert len(array.sharding.device_set) == 4
  assert array.is_fully_replicated


@pytest.mark.parametrize(
  'mask',
  [
    np.ones(8, bool),
    np.array([1, 1, 0, 1, 0, 0, 0, 0], bool),  # half of the devices have none
    np.zeros(8, bool),
  ],
)
def test_shares_average_to_the_mean_over_the_global_batch(mask):
  values = np.arange(8.0, dtype=np.float32) ** 2

  def step(scale, batch, old, key):
    del old, key

    def share(scale):
      return global_mean(scale * batch['values'], batch['mask'])

    shares = jax.value_and_grad(share)(scale)
    return scale, jax.lax.pmean(shares, AXIS)

  # Without constants `jax.pmap` of 0.10 would take these arrays for the
  # arguments, and not cut the last.
  _, (mean, gradient) = map_step(step)(
    replicate(jnp.asarray(3.0)),
    shard({'values': values, 'mask': mask}),
    replicate(jnp.zeros(1)),
    replicate(jnp.zeros(1)),
  )
  wanted = values[mask].mean() if mask.any() else 0
  assert float(mean) == pytest.approx(3 * wanted, rel=1e-6)
  assert float(gradient) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('advbct', {'threshold': 0.9, 'discriminator_norm': 'per_domain'}),
    ('advbct', {'threshold': 0.9, 'discriminator_norm': 'joint'}),
    ('advbct', {'threshold': 0.9, 'discriminator_norm': 'none'}),
    ('bct', {}),
    ('bct_ranking', {}),
    ('bt2', {'extra_dimensions': 2}),
    ('contrastive', {'temperature': 0.5}),
    ('d_simplex', {'vertices': 7}),
    ('hoc', {'vertices': 7, 'scale': 2.0}),
    ('hot_refresh', {'temperature': 0.5, 'negatives': 3}),
    ('l2', {}),
    ('lce', {}),
    ('lwf', {'temperature': 1.0}),
    ('mixbct', {'margin_scale': 2.0, 'ratio': 0.4}),
    ('nccl', {'queue': 20}),
    ('ndpp', {'temperature': 1.0}),
    ('prunnet', {}),
    ('prunnet', {'projection': 'pcgrad'}),
    ('triplet', {'negatives': 3}),
    ('unibct', {'scale': 2}),
    ('unibct', {'scale': 2, 'refinement_epochs': (0,)}),
  ],
)
def test_methods_have_the_loss_gradients_and_memory_of_one_device(
  name, options
):
  random = np.random.default_rng(0)
  # Old samples come first, so that the last device has none.
  labels = np.sort(np.arange(16) % 4)
  old_embeddings = random.normal(size=(16, 6)).astype(np.float32)
  independent = random.normal(size=(16, 4)).astype(np.float32)
  old = OldModel(
    class_statistics(
      random.normal(size=(20, 6)).astype(np.float32), np.arange(20) % 3, 3
    ),
    np.array([1, 0, 2, -1]),
  )
  side = OldSide(old_embeddings, labels, old.old_class[labels], old)

  encoder = PrunedEmbeddings() if name == 'prunnet' else ScaledEmbeddings()

  def method(axis_name):
    return make_method(name, encoder, 4, options, axis_name=axis_name)

  old = old.replace(prepared=method(None).prepare(side))
  batch = {
    'image': random.normal(1, 3, (16, 6)).astype(np.float32),
    'label': labels,
    'old_embedding': old_embeddings,
    'row': np.arange(16, dtype=np.int32),
    'other_embeddings': {'independent': independent},
  }
  optimizer = make_optimizer(0.1, 0.9, 5e-4)
  state = create_state(
    trained_model(method(None)),
    optimizer,
    (
      batch_of(batch['image'], labels, old_embeddings, independent=independent),
      old,
      Progress(jnp.asarray(4), 10, 5),
    ),
    seed=0,
  )
  # A queue that is not empty.
  state = state.replace(step=state.step + 4)
  if method(None).refresh_epochs:
    memory = method(None).refresh(
      state.memory['method'], side, lambda: batch['image']
    )
    state = state.replace(memory={'method': memory})

  def take(devices):
    step = jax.pmap(
      partial(
        train_step,
        method=method(AXIS),
        optimizer=optimizer,
        schedule=lambda step: 0.1,
        prepare_images=lambda images, keys: images,
        steps=10,
        steps_per_epoch=5,
      ),
      axis_name=AXIS,
      in_axes=(None, 0, None, None),
      out_axes=(None, None),
      devices=devices,
    )
    taken, logged = state, []
    for _ in range(2):
      cut = jax.tree.map(
        lambda x: x.reshape(len(devices), -1, *x.shape[1:]), batch
      )
      taken, metrics = step(taken, cut, old, jax.random.key(0))
      logged.append(metrics)
    return jax.device_get((taken, logged))

  one, four = take(jax.devices()[:1]), take(jax.devices())
  if name == 'advbct':
    assert 0 < float(one[1][0]['violators']) < 1
  if name == 'mixbct':
    assert float(one[1][0]['replaced']) == 6 / 16
  if name == 'nccl':
    assert float(one[1][1]['queued']) == 1
  jax.tree.map(
    lambda ours, theirs: np.testing.assert_allclose(
      ours, theirs, rtol=1e-4, atol=1e-6
    ),
    four,
    one,
  )


def test_an_efficientnet_lite_has_the_gradients_of_one_device():
  stages = (Stage(16, 1, 3, 1, 1), Stage(24, 1, 3, 2, 6))
  make = partial(EfficientNetLite, 1.0, 1.0, 16, width=0.25, stages=stages)
  images = np.random.default_rng(0).normal(size=(8, 16, 16, 3))
  # Brighter from one to the next, so that no two devices have alike statistics.
  images = (images + np.arange(8)[:, None, None, None]).astype(np.float32)
  variables = make().init(jax.random.key(0), images, train=False)

  def differentiate(variables, images):
    def loss(params):
      features, updated = make(axis_name=AXIS).apply(
        {**variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      return (features**2).mean(), updated

    return jax.lax.pmean(
      jax.grad(loss, has_aux=True)(variables['params']), AXIS
    )

  one, four = (
    jax.pmap(
      differentiate,
      axis_name=AXIS,
      in_axes=(None, 0),
      out_axes=None,
      devices=devices,
    )(variables, images.reshape(len(devices), -1, *images.shape[1:]))
    for devices in (jax.devices()[:1], jax.devices())
  )
  jax.tree.map(
    lambda ours, theirs: np.testing.assert_allclose(
      ours, theirs, rtol=1e-3, atol=1e-5
    ),
    *jax.device_get((four, one)),
  )


def test_a_step_is_compiled_once_for_its_own_output():
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **details: (
      compiled.append(event)
      if event == '/jax/core/compile/backend_compile_duration'
      else None
    )
  )
  step = map_step(lambda state, batch, *_: (state + batch.sum(), {}))
  batch = shard(np.arange(8.0, dtype=np.float32))
  state, _ = step(replicate(jnp.zeros(())), batch, None, None)
  assert compiled
  compiled.clear()
  step(state, batch, None, None)
  assert compiled == []


@pytest.mark.parametrize(('batch_size', 'chunk_rows'), [(6, 7), (64, 64)])
def test_an_extraction_has_what_the_encoder_says_about_each_image(
  tmp_path, batch_size, chunk_rows
):
  # Neither batches of 6 nor 11 images can be cut into four alike.
  encoder = tiny_encoder()
  store = extract(
    encoder,
    image_set(11),
    tmp_path / 'store',
    batch_size=batch_size,
    chunk_rows=chunk_rows,
  )
  np.testing.assert_allclose(
    store.read(), embed_directly(encoder, 11), atol=1e-5
  )
