"""Runs the jobs of a comparison, each in a process of its own.

Only the children touch an accelerator: a process that has opened one would keep
it from them.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import tqdm

from advbct_jax.atomic_files import write_text
from advbct_jax.comparison.grid import Job
from advbct_jax.comparison.results import SIDES, CellResult
from advbct_jax.refresh.report import NAME as CURVES
from advbct_jax.training.interruption import Interruption

_TIMES = 'times.jsonl'
_DONE = 'done'

# A job, its process, and when that began.
_Running = tuple[Job, subprocess.Popen, float]

# The part of a GPU's memory that JAX takes when it starts, 0.75 by default.
# Jobs on the same GPU share it.
_MEMORY = 'XLA_PYTHON_CLIENT_MEM_FRACTION'

_PROBE = (
  'import jax, json; '
  'print(json.dumps([jax.default_backend(), jax.local_device_count()]))'
)


@dataclasses.dataclass(frozen=True)
class Place:
  """Where one job at a time runs.

  Attributes:
    cores: of the CPU that it may use; empty for all.
    environment: variables that give it its device.
  """

  cores: tuple[int, ...] = ()
  environment: tuple[tuple[str, str], ...] = ()


def find_places(jobs: int) -> list[Place]:
  """Shares out this machine.

  Args:
    jobs: how many jobs at a time; 0 for one a core, or one a GPU.

  Returns:
    A place for each.
  """
  # A process that has opened a GPU keeps most of its memory.
  probed = subprocess.run(
    [sys.executable, '-c', _PROBE], stdout=subprocess.PIPE, check=True
  )
  backend, devices = json.loads(probed.stdout)
  if backend == 'gpu':
    shown = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = shown.split(',') if shown else [str(n) for n in range(devices)]
    count = jobs or len(names)
    jobs_a_gpu = math.ceil(count / len(names))
    memory = float(os.environ.get(_MEMORY, 0.75)) / jobs_a_gpu
    return [
      Place(
        environment=(
          ('CUDA_VISIBLE_DEVICES', names[n % len(names)]),
          (_MEMORY, f'{memory:.3f}'),
        )
      )
      for n in range(count)
    ]
  if backend != 'cpu' or not hasattr(os, 'sched_getaffinity'):
    return [Place()] * (jobs or 1)
  cores = sorted(os.sched_getaffinity(0))
  # Two jobs on a core take as long as one after the other, and more memory.
  count = min(jobs or len(cores), len(cores))
  return [Place(cores=tuple(cores[n::count])) for n in range(count)]


def is_done(root: pathlib.Path, job: Job) -> bool:
  """Whether a job has come to its end, and was judged as it is asked for."""
  path = root / job.name / _DONE
  return path.exists() and path.read_text('utf-8') == _judged_on(job)


def mark_done(root: pathlib.Path, job: Job) -> None:
  """Notes that a job has come to its end."""
  write_text(root / job.name / _DONE, _judged_on(job))


def done_seeds(root: pathlib.Path) -> set[int]:
  """The seeds of all cells that have come to their end."""
  return {int(path.parent.name) for path in root.glob(f'*/*/*/[0-9]*/{_DONE}')}


def run_jobs(
  jobs: Sequence[Job],
  root: pathlib.Path,
  places: Sequence[Place],
  command: Callable[[Job], list[str]],
) -> list[Job]:
  """Runs what is not done yet, as many jobs at a time as there are places.

  A job that fails stops only those that need it. A first SIGTERM, SIGHUP or
  Ctrl-C is passed on to the children, which save their state. They share what
  JAX compiles, in `compiled` of the root unless JAX_COMPILATION_CACHE_DIR names
  another folder.

  Args:
    jobs: each after those that it needs.
    root: the comparison's folder; a job's output goes to `NAME/log.txt` in it.
    places: where jobs run.
    command: the command line of a job.

  Returns:
    The jobs that have failed, or need one that has.

  Raises:
    KeyboardInterrupt: if a signal asked to stop, when all children have.
  """
  waiting = [job for job in jobs if not is_done(root, job)]
  failed: list[Job] = []
  running: dict[int, _Running] = {}
  done = {job.name for job in jobs} - {job.name for job in waiting}
  with (
    Interruption() as interruption,
    tqdm.tqdm(total=len(jobs), initial=len(done), unit=' jobs') as progress,
  ):
    try:
      while waiting or running:
        if interruption.signal is not None:
          raise KeyboardInterrupt
        for number, place in enumerate(places):
          if number not in running:
            job = _next_ready(waiting, done)
            if job is None:
              break
            waiting.remove(job)
            process = _start(job, root, place, command(job))
            running[number] = (job, process, time.monotonic())
        if not running:  # what still waits needs what has failed
          for job in waiting:
            lacks = ', '.join(name for name in job.needs if name not in done)
            progress.write(f'{job.name}: left out, for it needs {lacks}')
          progress.update(len(waiting))
          failed += waiting
          break
        time.sleep(0.2)  # of jobs that take minutes
        for number, (job, process, began) in list(running.items()):
          if process.poll() is None:
            continue
          del running[number]
          _note_time(root, job, time.monotonic() - began)
          if process.returncode == 0:
            done.add(job.name)
            progress.set_postfix_str(job.name)
          else:
            failed.append(job)
            progress.write(_describe_failure(root, job, process.returncode))
          progress.update()
    finally:
      _stop(running.values(), root)
  return failed


def read_cells(jobs: Sequence[Job], root: pathlib.Path) -> list[CellResult]:
  """Collects the figures of all cells that are done.

  Args:
    jobs: of the comparison.
    root: its folder.
  """
  seconds = read_times(root)
  cells = []
  for job in jobs:
    if job.cell is None or not is_done(root, job):
      continue
    results = json.loads((root / job.name / 'results.json').read_text('utf-8'))
    figures = {
      name: {side: sides[side] for side in SIDES if side in sides}
      for name, sides in results['datasets'].items()
    }
    cells.append(
      CellResult(
        *job.cell,
        job.seed,
        figures,
        # No time is known of a cell that was only ever run alone.
        seconds.get(job.name),
        _read_refresh(root / job.name) if job.policies else {},
      )
    )
  return cells


def _read_refresh(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
  """What a cell's policies reached: see `CellResult.refresh`."""
  text = (folder / f'{CURVES}.json').read_text('utf-8')
  return {
    name: {
      curve['policy']: {
        metric: dict(zip(map(str, measured['shares']), values, strict=True))
        for metric, values in curve['figures'].items()
      }
      for curve in measured['curves']
    }
    for name, measured in json.loads(text).items()
  }


def read_times(root: pathlib.Path) -> dict[str, float]:
  """The seconds that each job has taken so far, over all its runs."""
  path = root / _TIMES
  seconds: dict[str, float] = {}
  if path.exists():
    for line in path.read_text('utf-8').splitlines():
      name, taken = json.loads(line)
      seconds[name] = seconds.get(name, 0) + taken
  return seconds


def _judged_on(job: Job) -> str:
  """What may change without another training, but not without a new verdict."""
  evaluation = job.config.evaluation
  judged_on = {
    'root': job.config.data.root,
    'data': list(evaluation.data),
    'crop_queries': evaluation.crop_queries,
  }
  if job.policies:
    judged_on['policies'] = list(job.policies)
  if job.is_adapted and job.cell:
    judged_on['adapted'] = True
  return json.dumps(judged_on)


def _next_ready(waiting: Sequence[Job], done: set[str]) -> Job | None:
  ready = (job for job in waiting if done.issuperset(job.needs))
  return next(ready, None)


def _start(
  job: Job, root: pathlib.Path, place: Place, command: list[str]
) -> subprocess.Popen:
  log = root / job.name / 'log.txt'
  log.parent.mkdir(parents=True, exist_ok=True)
  # What an earlier try said is wanted most where this one fails too.
  with log.open('a') as output:
    process = subprocess.Popen(
      command,
      stdout=output,
      stderr=subprocess.STDOUT,
      # Whatever is set outside goes first, but for the device.
      env={
        'JAX_COMPILATION_CACHE_DIR': str(root.absolute() / 'compiled'),
        **os.environ,
        **dict(place.environment),
      },
      # Ctrl-C reaches this process alone, which passes it on once.
      start_new_session=True,
    )
  if place.cores:
    # Long before JAX looks at how many cores it has.
    os.sched_setaffinity(process.pid, place.cores)
  return process


def _stop(running: Iterable[_Running], root: pathlib.Path) -> None:
  running = list(running)
  # All are told before one is waited for: each may save for minutes.
  for _, process, _ in running:
    process.send_signal(signal.SIGTERM)
  for job, process, began in running:
    process.wait()
    _note_time(root, job, time.monotonic() - began)


def _note_time(root: pathlib.Path, job: Job, seconds: float) -> None:
  with (root / _TIMES).open('a') as file:
    file.write(json.dumps([job.name, round(seconds, 1)]) + '\n')


def _describe_failure(root: pathlib.Path, job: Job, status: int) -> str:
  log = root / job.name / 'log.txt'
  # Not as text, where each state of a progress bar would be a line.
  lines = log.read_bytes().decode(errors='replace').strip().split('\n')[-5:]
  tail = '\n  '.join(line.rsplit('\r', 1)[-1] for line in lines)
  return f'{job.name}: FAILED with status {status}; {log} ends:\n  {tail}'
