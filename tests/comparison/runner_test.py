"""In which order jobs run, and what becomes of failures and signals."""

import json
import os
import shutil
import signal
import sys
import threading
import time

import ml_collections
import pytest

from advbct_jax.comparison import runner
from advbct_jax.comparison.grid import Job
from advbct_jax.comparison.runner import (
  Place,
  done_seeds,
  find_places,
  is_done,
  mark_done,
  read_cells,
  read_times,
  run_jobs,
)

ONE, TWO = [Place()], [Place(), Place()]


CONFIG = ml_collections.ConfigDict(
  {'data': {'root': ''}, 'evaluation': {'data': (), 'crop_queries': True}}
)


def make_job(name, old='', independent=''):
  return Job(name, None, 0, CONFIG, name, old, independent)


def run(jobs, root, script='', places=ONE, **scripts):
  """Runs `python -c` for each job, with its name in `argv`; returns failures.

  Every script begins and ends with a line in `order.txt`.
  """

  done = root / 'example'
  done.mkdir()
  mark_done(root, make_job('example'))
  text = (done / 'done').read_text()
  shutil.rmtree(done)

  def command(job):
    body = scripts.get(job.name, script)
    lines = [
      'import os, pathlib, signal, sys, time',
      f'root = pathlib.Path({str(root)!r})',
      'name = sys.argv[1]',
      'def note(what):',
      '  with (root / "order.txt").open("a") as file:',
      '    file.write(f"{what} {name}\\n")',
      'note("begin")',
      body,
      'note("end")',
      f'(root / name / "done").write_text({text!r})',
    ]
    return [sys.executable, '-S', '-c', '\n'.join(lines), job.name]

  return [job.name for job in run_jobs(jobs, root, places, command)]


def read_order(root):
  return (root / 'order.txt').read_text().splitlines()


def wait_for(condition):
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_a_job_begins_when_all_that_it_needs_have_ended(tmp_path):
  jobs = [
    make_job('old'),
    make_job('independent'),
    make_job('cell', old='old', independent='independent'),
  ]
  linger = 'time.sleep(0.5)'
  places = [Place()] * 3
  assert run(jobs, tmp_path, places=places, old=linger) == []

  order = read_order(tmp_path)
  assert order[-2:] == ['begin cell', 'end cell']
  assert len(order) == 6


def test_one_place_runs_one_job_at_a_time_in_their_order(tmp_path):
  assert run([make_job(name) for name in 'cab'], tmp_path) == []

  assert read_order(tmp_path) == [
    f'{what} {name}' for name in 'cab' for what in ('begin', 'end')
  ]


def test_as_many_jobs_run_at_a_time_as_there_are_places(tmp_path):
  # Each waits until both have begun.
  meet = (
    'while (root / "order.txt").read_text().count("begin") < 2:\n'
    '  time.sleep(0.02)'
  )
  assert run([make_job('a'), make_job('b')], tmp_path, meet, TWO) == []

  assert {line.split()[0] for line in read_order(tmp_path)[:2]} == {'begin'}


def test_a_later_job_goes_ahead_of_one_that_has_to_wait(tmp_path):
  # The first ends after the third, which must not wait for the second.
  linger = 'while not (root / "free" / "done").exists():\n  time.sleep(0.02)'
  jobs = [make_job('slow'), make_job('next', old='slow'), make_job('free')]
  assert run(jobs, tmp_path, places=TWO, slow=linger) == []

  order = read_order(tmp_path)
  assert order.index('end free') < order.index('begin next')


def test_a_failure_stops_only_what_needs_it_and_says_how_it_ended(
  tmp_path, capsys
):
  jobs = [
    make_job('bad'),
    make_job('cell', old='bad'),
    make_job('on_top', independent='cell'),
    make_job('good'),
    make_job('other', old='good'),
  ]
  failed = run(
    jobs, tmp_path, bad='print("step 3\\rstep 4\\nno luck"); sys.exit(3)'
  )

  assert failed == ['bad', 'cell', 'on_top']
  assert [job.name for job in jobs if is_done(tmp_path, job)] == [
    'good',
    'other',
  ]
  told = capsys.readouterr().out
  log = tmp_path / 'bad' / 'log.txt'
  assert f'bad: FAILED with status 3; {log} ends:\n  step 4\n  no luck' in told
  assert 'cell: left out, for it needs bad' in told
  assert 'on_top: left out, for it needs cell' in told


def test_a_job_whose_need_is_not_there_is_left_out_at_the_end(tmp_path, capsys):
  jobs = [make_job('lost', old='gone'), make_job('good')]

  assert run(jobs, tmp_path) == ['lost']
  assert is_done(tmp_path, jobs[1])
  assert 'lost: left out, for it needs gone' in capsys.readouterr().out


def test_what_is_done_is_not_run_again_and_what_failed_is(tmp_path):
  jobs = [make_job('good'), make_job('bad'), make_job('cell', old='bad')]
  run(jobs, tmp_path, bad='sys.exit(1)')
  (tmp_path / 'order.txt').unlink()
  assert run(jobs, tmp_path) == []

  assert read_order(tmp_path) == [
    'begin bad',
    'end bad',
    'begin cell',
    'end cell',
  ]


def test_times_are_summed_over_runs(tmp_path):
  run([make_job('a')], tmp_path, 'time.sleep(0.5); sys.exit(1)')
  first = read_times(tmp_path)
  run([make_job('a'), make_job('b')], tmp_path, 'time.sleep(0.5)')
  both = read_times(tmp_path)

  assert first['a'] >= 0.5
  assert both['a'] >= first['a'] + 0.5
  assert 0.5 <= both['b'] < both['a']


def test_a_signal_is_passed_on_and_waits_for_the_children(tmp_path):
  save = (
    'def save(*unused):\n'
    '  time.sleep(0.3)\n'
    '  note("saved")\n'
    '  sys.exit(143)\n'
    'signal.signal(signal.SIGTERM, save)\n'
    'note("ready")\n'
    'time.sleep(60)'
  )
  order = tmp_path / 'order.txt'

  def interrupt():
    wait_for(lambda: order.exists() and order.read_text().count('ready') == 2)
    os.kill(os.getpid(), signal.SIGTERM)

  before = signal.getsignal(signal.SIGTERM)
  thread = threading.Thread(target=interrupt)
  thread.start()
  jobs = [make_job('a'), make_job('b'), make_job('c')]
  with pytest.raises(KeyboardInterrupt):
    run(jobs, tmp_path, save, TWO)
  thread.join()

  assert sorted(read_order(tmp_path)[-2:]) == ['saved a', 'saved b']
  assert set(read_times(tmp_path)) == {'a', 'b'}
  assert signal.getsignal(signal.SIGTERM) == before


def test_no_child_outlives_an_error_of_the_runner(tmp_path):
  def command(job):
    if job.name == 'b':
      wait_for(lambda: (tmp_path / 'pid').exists())
      return ['/no/such/program']
    script = (
      f'import os, pathlib, time; path = pathlib.Path({str(tmp_path)!r});'
      '(path / "new").write_text(str(os.getpid()));'
      '(path / "new").rename(path / "pid"); time.sleep(60)'
    )
    return [sys.executable, '-S', '-c', script]

  with pytest.raises(FileNotFoundError):
    run_jobs([make_job('a'), make_job('b')], tmp_path, TWO, command)
  started = int((tmp_path / 'pid').read_text())
  with pytest.raises(ProcessLookupError):
    os.kill(started, 0)


@pytest.mark.parametrize('given', ['', '/elsewhere'])
def test_children_share_what_is_compiled_unless_told_where(
  tmp_path, monkeypatch, given
):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  if given:
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', given)
  show = 'print(os.environ["JAX_COMPILATION_CACHE_DIR"])'
  assert run([make_job('a')], tmp_path, show) == []

  shown = (tmp_path / 'a' / 'log.txt').read_text()
  assert shown == f'{given or tmp_path / "compiled"}\n'


def test_a_place_gives_a_job_its_cores_and_its_device(tmp_path):
  core = min(os.sched_getaffinity(0))
  place = Place((core,), (('CUDA_VISIBLE_DEVICES', '3'),))
  show = (
    'time.sleep(0.2)\n'
    'print(os.sched_getaffinity(0), os.environ["CUDA_VISIBLE_DEVICES"])'
  )
  assert run([make_job('a')], tmp_path, show, [place]) == []

  assert (tmp_path / 'a' / 'log.txt').read_text() == f'{{{core}}} 3\n'


@pytest.mark.parametrize(
  ('jobs', 'shown', 'devices', 'memory'),
  [
    (0, None, ['0', '1'], '0.750'),
    (3, None, ['0', '1', '0'], '0.375'),
    (0, '5,7', ['5', '7'], '0.750'),
    (1, '5,7', ['5'], '0.750'),
  ],
)
def test_gpus_and_their_memory_are_shared_out(
  monkeypatch, jobs, shown, devices, memory
):
  monkeypatch.setattr(runner, '_PROBE', 'print(\'["gpu", 2]\')')
  for name in ('CUDA_VISIBLE_DEVICES', 'XLA_PYTHON_CLIENT_MEM_FRACTION'):
    monkeypatch.delenv(name, raising=False)
  if shown:
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', shown)

  environments = [dict(place.environment) for place in find_places(jobs)]
  assert [e['CUDA_VISIBLE_DEVICES'] for e in environments] == devices
  fractions = {e['XLA_PYTHON_CLIENT_MEM_FRACTION'] for e in environments}
  assert fractions == {memory}


@pytest.mark.parametrize(
  ('jobs', 'cores'),
  [(0, [(1,), (2,), (4,)]), (2, [(1, 4), (2,)]), (9, [(1,), (2,), (4,)])],
)
def test_each_core_belongs_to_one_place(monkeypatch, jobs, cores):
  monkeypatch.setattr(runner, '_PROBE', 'print(\'["cpu", 1]\')')
  monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {4, 1, 2})

  assert [place.cores for place in find_places(jobs)] == cores


def test_cells_that_are_done_are_read_with_their_times(tmp_path):
  jobs = []
  for method, seed in (('l2', 0), ('bct', 0), ('bct', 12), ('lce', 0)):
    name = f'classes/{method}/fresh/{seed}'
    cell = ('classes', method, 'fresh')
    jobs.append(Job(name, cell, seed, CONFIG, name))
    figures = {side: {'map': 40.0 + seed} for side in ('old', 'self', 'cross')}
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / 'results.json').write_text(
      json.dumps({'datasets': {'tiny': {**figures, 'more': {}}}})
    )
    if method != 'lce':
      mark_done(tmp_path, jobs[-1])
  (tmp_path / 'times.jsonl').write_text(
    '["classes/bct/fresh/12", 2.5]\n["classes/l2/fresh/0", 1.0]\n'
  )
  cells = read_cells(jobs, tmp_path)

  found = [(cell.method, cell.seed, cell.seconds) for cell in cells]
  assert found == [('l2', 0, 1.0), ('bct', 0, None), ('bct', 12, 2.5)]
  assert cells[2].figures == {
    'tiny': {side: {'map': 52.0} for side in ('old', 'self', 'cross')}
  }
  assert done_seeds(tmp_path) == {0, 12}
