import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.parallel import global_mean, map_step, replicate, shard

VALUES = jnp.array([1.0, 2.0, 6.0, 11.0])


def test_the_mean_is_over_the_values_of_the_mask():
  assert float(global_mean(VALUES, axis_name=None)) == 5
  mask = jnp.array([True, False, True, True])
  assert float(global_mean(VALUES, mask, axis_name=None)) == 6
  gradient = jax.grad(global_mean)(VALUES, mask, axis_name=None)
  np.testing.assert_allclose(gradient, [1 / 3, 0, 1 / 3, 1 / 3])


@pytest.mark.parametrize('hidden', [1.0, np.inf, np.nan])
def test_an_empty_mask_gives_zero_whatever_it_hides(hidden):
  value, gradient = jax.value_and_grad(global_mean)(
    jnp.full(4, hidden), jnp.zeros(4, bool), axis_name=None
  )
  assert float(value) == 0
  np.testing.assert_array_equal(gradient, np.zeros(4))


def test_a_mapped_step_gives_back_one_state_and_takes_the_old_one():
  def step(state, batch, old, key):
    total = jax.lax.psum(batch['x'].sum(), 'batch')
    return state + (old + key) * total, {'total': total}

  state = replicate(jnp.array([1.0, 2.0]))
  batch = shard({'x': np.arange(8.0)})
  constants = replicate((jnp.array(0.5), jnp.array(0.25)))
  after, metrics = map_step(step)(state, batch, *constants)

  np.testing.assert_allclose(after, [22, 23])
  assert float(metrics['total']) == 28
  assert state.is_deleted()


def test_four_devices_agree_with_one():
  tests = pathlib.Path(__file__).parent
  ran = subprocess.run(
    [
      *(sys.executable, '-m', 'pytest', '-n', '0', '-p', 'no:cacheprovider'),
      tests / 'on_four_devices.py',
      tests / 'class_shards_on_four_devices.py',
    ],
    cwd=tests.parent,
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': '--xla_force_host_platform_device_count=4',
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert ran.returncode == 0, ran.stdout + ran.stderr
