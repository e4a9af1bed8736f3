"""Two processes of two devices each do what one of four does."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from advbct_jax import processes
from advbct_jax.embeddings.store import open_store
from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import latest_step
from advbct_jax.training.logging import read_figures, read_metrics
from tests.processes.pairs import (
  finish,
  free_address,
  run_alone,
  run_pair,
  start,
)

_STEPS = 8
# A chunk for each process, and more.
_IN_CHUNKS = '--chunk_rows=8'
# Some classes on each device.
_CUT = '--config.shard_classes'


def _train(landmarks, workdir, *options):
  return (
    'train',
    '--config=tests/processes/tiny_config.py',
    f'--config.data.root={landmarks}',
    f'--workdir={workdir}',
    *options,
  )


def _said(ran):
  """What a process printed, without what Gloo's threads say of connections."""
  of_gloo = re.compile(r'\[Gloo\]|peer ranks|^\s*$')
  return [line for line in ran.stdout.splitlines() if not of_gloo.search(line)]


@pytest.fixture(scope='module')
def alone(landmarks, tmp_path_factory):
  """An upgrade that one process of four devices has finished."""
  workdir = tmp_path_factory.mktemp('alone')
  ran = run_alone(_IN_CHUNKS, *_train(landmarks, workdir))
  assert ran.returncode == 0, ran.stderr
  return workdir


def _assert_same_losses(workdir, alone):
  found, wanted = read_metrics(workdir), read_metrics(alone)
  assert [line['step'] for line in found] == [*range(1, _STEPS + 1)]
  for here, there in zip(found, wanted, strict=True):
    losses = [name for name in there if name.endswith('loss')]
    assert 'boundary_loss' in losses
    for name in losses:
      assert here[name] == pytest.approx(there[name], abs=1e-4)


def test_two_processes_agree_and_one_failure_ends_both(tmp_path):
  address = free_address()
  first, second = finish(
    *(
      start(2, 'tests.processes.agreement', address, process, tmp_path)
      for process in range(2)
    )
  )
  assert _said(first) == ['all is well'], first.stderr
  assert not _said(second)
  assert first.returncode == second.returncode == 2
  refusal = 'error: the second process has had enough.'
  assert f'process 1 has ended this run: {refusal}' in first.stderr
  assert second.stderr.count(refusal) == 1


def test_an_upgrade_that_a_signal_stops_goes_on_in_one_process(
  alone, landmarks, tmp_path
):
  old, workdir = tmp_path / 'old', tmp_path / 'new'
  shutil.copytree(
    alone / 'old', old, ignore=shutil.ignore_patterns('embeddings')
  )
  line = _train(
    landmarks,
    workdir,
    f'--config.old.path={old}',
    '--config.evaluation.data=()',
  )

  pair = run_pair(
    _IN_CHUNKS, *line, _CUT, second=('--signal=SIGTERM', '--before_step=3')
  )
  assert [ran.returncode for ran in pair] == [143, 143], pair[0].stderr
  step = latest_step(workdir)
  assert 3 <= step < _STEPS
  assert f'stopped at step {step} of {_STEPS}' in pair[0].stderr
  assert len(read_metrics(workdir)) == step
  assert not _said(pair[1])
  found, wanted = (
    open_store(folder / 'embeddings' / 'tiny-train')
    for folder in (old, alone / 'old')
  )
  assert found.card == wanted.card
  assert found.chunk_count == 4
  assert found.digest() == wanted.digest()
  np.testing.assert_array_equal(found.read(), wanted.read())

  ran = run_alone(*line)
  assert ran.returncode == 0, ran.stderr
  assert f'going on from step {step} of {_STEPS}' in ran.stdout
  _assert_same_losses(workdir, alone)


def test_a_process_that_dies_ends_the_run_which_two_processes_go_on_with(
  alone, landmarks, tmp_path
):
  workdir = tmp_path / 'run'
  shutil.copytree(
    alone, workdir, ignore=shutil.ignore_patterns('embeddings', 'results.json')
  )
  # What one process had saved in the middle.
  shutil.rmtree(workdir / 'checkpoints' / str(_STEPS))
  line = _train(landmarks, workdir)

  first, second = run_pair(
    *line,
    '--dead_after=5',
    second=('--signal=SIGKILL', '--before_step=6'),
  )
  assert second.returncode == -9, first.stderr
  assert first.returncode not in (0, 2)
  assert 'stopped sending heartbeats' in first.stderr
  assert latest_step(workdir) == 4

  # And this time the first judges on its way, and others decode for each.
  first, second = run_pair(
    *line,
    _CUT,
    '--config.evaluation.every_epochs=2',
    '--config.data.workers=1',
  )
  assert (first.returncode, second.returncode) == (0, 0), first.stderr
  assert 'going on from step 4 of 8' in first.stdout
  assert f'report: {workdir}/report.md' in first.stdout
  assert not _said(second)
  _assert_same_losses(workdir, alone)
  found, wanted = (
    json.loads((folder / 'results.json').read_text('utf-8'))['datasets']
    for folder in (workdir, alone)
  )
  assert found['tiny']['old'] == wanted['tiny']['old']
  (judged,) = read_figures(workdir)
  assert judged['step'] == _STEPS


@pytest.mark.parametrize(
  ('variables', 'launcher'),
  [
    ({'SLURM_STEP_NODELIST': 'a[1-2]', 'SLURM_STEP_NUM_TASKS': '2'}, 'Slurm'),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, 'Open MPI'),
  ],
)
def test_commands_that_are_not_shared_say_so(
  variables, launcher, command, monkeypatch, capsys
):
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(SystemExit) as ended:
    command('tables', 'runs')
  assert ended.value.code == 2
  said = capsys.readouterr().err
  assert f'advbct tables runs in one process, but {launcher}' in said


def test_a_batch_script_of_slurm_is_one_process(monkeypatch):
  monkeypatch.setenv('SLURM_NTASKS', '4')
  monkeypatch.setenv('SLURM_STEP_NODELIST', 'a1')
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '1')
  processes.require_one('advbct tables')
  processes.start()
  assert processes.count() == 1


def test_a_process_may_work_by_itself_whatever_slurm_says(monkeypatch):
  monkeypatch.setenv('SLURM_STEP_NODELIST', 'a1')
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '2')
  processes.start(processes=1)
  assert (processes.count(), processes.is_first()) == (1, True)


def test_processes_are_named_in_full_or_not_at_all():
  with pytest.raises(InputError, match='--processes 2 and --process None'):
    processes.start('localhost:1', 2)


def test_one_process_agrees_with_itself(tmp_path):
  assert processes.gather('a') == ['a']
  assert processes.from_first(lambda: 'b') == 'b'
  with processes.first_by_itself() as here:
    assert here
  processes.require_shared(pathlib.Path(tmp_path))
  processes.require_same('the config', tmp_path)
