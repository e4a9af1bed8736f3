"""What must not depend on the number of devices.

`parallel_test.py` runs these tests in a process that sees four:

    XLA_FLAGS=--xla_force_host_platform_device_count=4 \
      python -m pytest -n 0 tests/on_four_devices.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.embeddings.extract import extract
from advbct_jax.methods import make_method
from advbct_jax.methods.method import OldModel, Progress, Samples
from advbct_jax.parallel import AXIS, global_mean, map_step, replicate, shard
from tests.embeddings.tiny_encoder import (
  embed_directly,
  image_set,
  tiny_encoder,
)

PROGRESS = Progress(jnp.asarray(4), steps=10, steps_per_epoch=5)


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
    ('contrastive', {'temperature': 0.5}),
    ('hot_refresh', {'temperature': 0.5, 'negatives': 3}),
    ('l2', {}),
    ('unibct', {'scale': 2}),
  ],
)
def test_methods_have_the_loss_and_gradients_of_one_device(name, options):
  random = np.random.default_rng(0)
  # Old samples come first, so that the last device has none.
  labels = jnp.sort(jnp.arange(16) % 4)
  old = OldModel(
    class_statistics(
      random.normal(size=(20, 6)).astype(np.float32), np.arange(20) % 3, 3
    ),
    np.array([1, 0, 2, -1]),
  )
  old = jax.tree.map(jnp.asarray, old)
  samples = Samples(
    random.normal(1, 3, (16, 6)).astype(np.float32),
    labels,
    random.normal(size=(16, 6)).astype(np.float32),
  )

  def method(axis_name):
    return make_method(name, 4, options, axis_name)

  variables = method(None).init(jax.random.key(0), samples, old, PROGRESS)
  stats = variables.get('batch_stats', {})
  params = variables.get('params', {})

  def evaluate(params, samples, axis_name):
    def loss(params, embeddings):
      (value, metrics), updated = method(axis_name).apply(
        {'params': params, 'batch_stats': stats},
        samples.replace(embeddings=embeddings),
        old,
        PROGRESS,
        mutable=['batch_stats'],
      )
      return value, (metrics, updated.get('batch_stats', {}))

    (value, rest), (by_params, by_embedding) = jax.value_and_grad(
      loss, argnums=(0, 1), has_aux=True
    )(params, samples.embeddings)
    return (value, rest, by_params), by_embedding

  def step(params, samples, *unused):
    averaged, by_embedding = evaluate(params, samples, AXIS)
    by_embedding = jax.lax.all_gather(by_embedding, AXIS, tiled=True)
    return params, (jax.lax.pmean(averaged, AXIS), by_embedding)

  # Without any of these, `jax.pmap` of 0.10 would take the arrays of the batch
  # for the arguments.
  given = params or {'nothing': jnp.zeros(1)}
  wanted = jax.jit(evaluate, static_argnums=2)(given, samples, None)
  constants = replicate((jnp.zeros(1), jnp.zeros(1)))
  _, found = map_step(step)(replicate(given), shard(samples), *constants)
  if name == 'advbct':
    assert 0 < float(wanted[0][1][0]['violators']) < 1
  averaged, by_embedding = found
  jax.tree.map(
    lambda ours, theirs: np.testing.assert_allclose(
      ours, theirs, rtol=1e-4, atol=1e-6
    ),
    averaged,
    wanted[0],
  )
  # The loss that is averaged over four devices is a quarter of each share.
  np.testing.assert_allclose(by_embedding / 4, wanted[1], rtol=1e-4, atol=1e-6)


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
