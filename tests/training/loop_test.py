"""The loop: stopped, killed and diverged runs, and what it compiles."""

import json
import signal

import jax
import numpy as np
import pytest

from advbct_jax.errors import DivergedError, StoppedError
from advbct_jax.experiment import train_and_judge
from advbct_jax.training.checkpoints import Checkpoints, latest_step
from advbct_jax.training.logging import MetricsLog, read_metrics
from advbct_jax.training.run import Run
from advbct_jax.training.upgrade import train_upgrade
from tests.training.subprocesses import run_tiny

_COMPILED = '/jax/core/compile/backend_compile_duration'


def _losses(workdir):
  """All that was logged but the speed, a dict a step."""
  return [
    {name: value for name, value in line.items() if name != 'images_per_second'}
    for line in read_metrics(workdir)
  ]


@pytest.fixture
def new_run(config, finished):
  """The config of a new encoder whose old one is there already."""
  config.old.path = str(finished / 'old')
  return config


@pytest.fixture
def raise_signal():
  """Raises a signal as `signal.raise_signal`; unheard, it fails the test."""

  def fail(number, frame):
    pytest.fail(f'nobody listened to {signal.Signals(number).name}')

  before = signal.signal(signal.SIGTERM, fail)
  yield signal.raise_signal
  signal.signal(signal.SIGTERM, before)


def _before(monkeypatch, owner, name, act):
  """Has `act` called before every call of a method, with its arguments."""
  method = getattr(owner, name)

  def acted(*arguments):
    act(*arguments)
    return method(*arguments)

  monkeypatch.setattr(owner, name, acted)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
  new_run, finished, tmp_path, monkeypatch, raise_signal, capsys
):
  steps = iter(range(1, 9))

  def stop_in_third_step(*unused):
    if next(steps) == 3:
      raise_signal(signal.SIGTERM)

  _before(monkeypatch, Run, 'complete_batch', stop_in_third_step)
  with pytest.raises(StoppedError) as stopped:
    train_upgrade(new_run, tmp_path)

  assert str(stopped.value) == (
    'stopped at step 3 of 8, which is saved; run the same command again to go '
    'on.'
  )
  assert stopped.value.signal == signal.SIGTERM
  assert latest_step(tmp_path) == 3
  assert _losses(tmp_path) == _losses(finished)[:3]

  train_upgrade(new_run, tmp_path)

  assert f'{tmp_path}: going on from step 3 of 8' in capsys.readouterr().out
  assert _losses(tmp_path) == _losses(finished)


def test_a_signal_while_the_last_step_is_saved_is_not_lost(
  new_run, tmp_path, monkeypatch, raise_signal
):
  def stop_at_the_end(checkpoints, state):
    if state.step == 8:
      raise_signal(signal.SIGTERM)

  _before(monkeypatch, Checkpoints, 'save', stop_at_the_end)
  with pytest.raises(StoppedError, match='stopped at step 8 of 8'):
    train_upgrade(new_run, tmp_path)

  assert latest_step(tmp_path) == 8


@pytest.fixture(scope='module')
def killed_twice(landmarks, tmp_path_factory):
  """A workdir killed in the old encoder's extraction and in the new run."""
  workdir = tmp_path_factory.mktemp('killed')
  embeddings = workdir / 'old' / 'embeddings' / 'tiny-train'
  first = run_tiny(landmarks, workdir, '--killed_after_chunk=1')
  assert first.returncode == -signal.SIGKILL, first.stderr
  assert not json.loads((embeddings / 'card.json').read_text())['complete']
  chunks = {
    chunk.name: chunk.stat().st_mtime_ns
    for chunk in (embeddings / 'chunks').iterdir()
  }
  second = run_tiny(landmarks, workdir, '--killed_before_step=8')
  assert second.returncode == -signal.SIGKILL, second.stderr
  assert len(read_metrics(workdir)) == 7
  return workdir, chunks


def test_a_killed_extraction_goes_on_at_its_missing_chunks(killed_twice):
  workdir, chunks = killed_twice
  folder = workdir / 'old' / 'embeddings' / 'tiny-train' / 'chunks'

  assert sorted(chunks) == ['000000', '000001']
  assert len(list(folder.iterdir())) == 4
  for name, written in chunks.items():
    assert (folder / name).stat().st_mtime_ns == written


def test_a_killed_upgrade_ends_bit_for_bit_as_one_that_was_not(
  killed_twice, config, finished, capsys
):
  workdir, _ = killed_twice
  train_and_judge(config, workdir)

  # The checkpoint of step 6 may have been in the making.
  output = capsys.readouterr().out
  assert any(f'going on from step {step} of 8' in output for step in (4, 6))
  assert _losses(workdir / 'old') == _losses(finished / 'old')
  assert [line['step'] for line in _losses(workdir)] == list(range(1, 9))
  assert _losses(workdir) == _losses(finished)
  # Among them digests of all weights.
  results = (workdir / 'results.json').read_text()
  assert results == (finished / 'results.json').read_text()


def test_a_diverged_run_keeps_what_was_good(new_run, tmp_path):
  new_run.optimizer.drop_factor = 1e20  # after step 4
  with pytest.raises(DivergedError) as diverged:
    train_upgrade(new_run, tmp_path)

  assert str(diverged.value) == (
    f'{tmp_path}: parameter_norm is inf at step 5. The last good checkpoint, '
    'of step 4, is kept. Lower config.optimizer.learning_rate or look at the '
    'data of this step.'
  )
  assert latest_step(tmp_path) == 4
  assert [line['step'] for line in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_a_run_that_diverges_at_once_says_that_nothing_is_saved(
  new_run, tmp_path, monkeypatch
):
  new_run.checkpoint.every_steps = 1

  def spoil(run, batch):
    run.old.embeddings[batch['row'][0]] = np.nan

  _before(monkeypatch, Run, 'complete_batch', spoil)
  with pytest.raises(DivergedError, match=r'step 1\. No checkpoint was saved'):
    train_upgrade(new_run, tmp_path)

  assert latest_step(tmp_path) is None


def test_nothing_compiles_after_the_first_step(new_run, tmp_path, monkeypatch):
  compiled = []
  compiled_before = {}

  def listen(event, seconds, **unused):
    if event == _COMPILED:
      compiled.append(event)

  def note(log, step, metrics):
    compiled_before[step] = len(compiled)

  _before(monkeypatch, MetricsLog, 'add', note)
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    train_upgrade(new_run, tmp_path)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)

  assert compiled_before[1] > 0
  assert compiled_before[2] == compiled_before[8] == len(compiled)


def test_nothing_goes_to_the_devices_within_a_step(
  new_run, tmp_path, monkeypatch
):
  complete = Run.complete_batch
  monkeypatch.setattr(
    Run,
    'complete_batch',
    lambda run, batch: jax.device_get(complete(run, batch)),
  )
  with pytest.raises(Exception, match='Disallowed host-to-device transfer'):
    train_upgrade(new_run, tmp_path)
