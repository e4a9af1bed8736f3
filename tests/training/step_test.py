"""The train step: what it changes, holds, and is not allowed to do."""

import re

import jax
import numpy as np
import pytest

from advbct_jax.training.logging import read_metrics
from tests.training.small_runs import IMAGES, noise_run
from tests.training.subprocesses import run_tiny

_LOSSES = (
  'loss',
  'classification_loss',
  'boundary_loss',
  'adversarial_loss',
)


@pytest.fixture
def run(config):
  """A run that trains everything.

  It has boundaries so tight that all old samples lie outside, and no weight
  decay, which would move everything anyway.
  """
  config.optimizer.weight_decay = 0.0
  config.advbct.threshold = 0.01
  return noise_run(config)


def _inputs(run):
  batch = run.complete_batch(run.data.load(np.arange(0, IMAGES, 2)))
  state = run.initial_state()
  return state, batch, *run.constants()


def test_one_step_trains_all_parts_together(run):
  state, batch, *constants = _inputs(run)
  before = jax.device_get(state.params)

  after, metrics = run.compiled_step()(state, batch, *constants)

  moved = jax.tree.map(
    lambda x, y: bool(np.any(x != y)), before, jax.device_get(after.params)
  )
  assert all(jax.tree.leaves(moved['encoder']))
  assert moved['classifier']['kernel']
  discriminator = moved['method']['discriminator']
  # A bias in front of a BatchNorm has no gradient but rounding.
  assert all(
    jax.tree.leaves([discriminator['fc1']['kernel'], discriminator['fc2']])
  )
  changes = (
    np.asarray(after.params['method']['boundary'])
    != (before['method']['boundary'])
  )
  np.testing.assert_array_equal(changes, [True, True, False, False])
  assert float(metrics['violators']) > 0
  assert int(after.step) == 1


def test_the_state_is_given_up_and_never_stacked(run):
  state, batch, *constants = _inputs(run)
  shapes = jax.tree.map(np.shape, state)

  after, metrics = run.compiled_step()(state, batch, *constants)

  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
  assert jax.tree.map(np.shape, after) == shapes
  assert {np.shape(value) for value in metrics.values()} == {()}


def test_the_step_never_calls_back_to_the_host(run):
  lowered = run.compiled_step().lower(*_inputs(run)).as_text()

  assert 'stablehlo.convolution' in lowered
  for name in ('callback', 'outfeed', 'infeed'):
    assert name not in lowered


def test_runs_of_two_seeds_share_what_is_compiled(run):
  programs = []
  for seed in (0, 1):
    run.config.seed = seed
    programs.append(run.compiled_step().lower(*_inputs(run)).as_text())

  assert programs[0] == programs[1]


def test_each_image_is_distorted_in_its_own_way_at_each_step(run):
  take = run.compiled_step()

  def loss(step=0, row_offset=0):
    state, batch, *constants = _inputs(run)
    state = state.replace(step=state.step + step)
    batch = {**batch, 'row': batch['row'] + row_offset}
    _, metrics = take(state, batch, *constants)
    return float(metrics['classification_loss'])

  assert loss() == loss()
  assert loss() != loss(step=1)
  assert loss() != loss(row_offset=1)


def test_four_devices_give_the_losses_of_one_and_compile_once(
  landmarks, finished, tmp_path
):
  old = f'--old={finished / "old"}'
  ran = run_tiny(landmarks, tmp_path, old, devices=4)
  assert ran.returncode == 0, ran.stderr

  compiled = dict(re.findall(r'step (\d): (\d+) compiled', ran.stdout))
  assert compiled['1'] == compiled['2']

  one, four = read_metrics(finished), read_metrics(tmp_path)
  assert len(four) == 8
  # Of 8 images a step some 4 are of old classes, so violators are unevenly
  # spread over devices of 2 images each.
  assert max(line['violators'] for line in one) > 0
  for wanted, found in zip(one, four, strict=True):
    # Each step at so high a rate amplifies what the one before has rounded.
    tolerance = 1e-4 if wanted['step'] <= 4 else 1e-3
    for name in (*_LOSSES, 'violators', 'discriminator_accuracy'):
      assert found[name] == pytest.approx(
        wanted[name], rel=tolerance, abs=1e-6
      ), (name, wanted['step'])
