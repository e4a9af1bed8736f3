"""What it gains to keep freed memory: a train step with and without.

  python -m benchmarks.freed_memory [--rounds=5]

The step is that of configs/glyphs.py on made-up images. Each round starts a
process of either kind, in turns. Prints milliseconds of processor time a step
and the peak of memory, medians and quartiles, and the ratio round by round.
"""

import argparse
import resource
import subprocess
import sys

import numpy as np

from advbct_jax.freed_memory import keep_freed_memory
from benchmarks.timing import spread

_STEPS = 25


def take_steps() -> None:
  """Prints the processor time of a step, in ms, and the peak, in MiB."""
  import jax

  from advbct_jax.training.run import Run
  from benchmarks.step_cost import Step, make_up
  from configs import glyphs

  config = glyphs.get_config()
  config.method = 'independent'
  made_up = make_up(config, classes=129)
  step = Step(Run(config, made_up.data, made_up.old), made_up.batch)
  for _ in range(2):
    jax.block_until_ready(step())
  before = _seconds()
  for _ in range(_STEPS):
    jax.block_until_ready(step())
  taken = (_seconds() - before) / _STEPS
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  print(1000 * taken, peak / 1024)


def _seconds() -> float:
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime


def measure(kind: str) -> list[float]:
  """What a process of one kind prints."""
  command = [sys.executable, '-m', 'benchmarks.freed_memory', f'--kind={kind}']
  ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
  return [float(figure) for figure in ran.stdout.split()]


def main() -> None:
  """Prints the comparison."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--kind', choices=('kept', 'given_back'))
  arguments = parser.parse_args()
  if arguments.kind:
    if arguments.kind == 'kept':
      keep_freed_memory()
    take_steps()
    return
  figures = np.array(
    [
      [measure(kind) for kind in ('given_back', 'kept')]
      for _ in range(arguments.rounds)
    ]
  )
  for kind, (milliseconds, peaks) in zip(
    ('given back', 'kept'), figures.transpose(1, 2, 0), strict=True
  ):
    print(
      f'{kind:<10} {spread(milliseconds, 1)} ms of processor time a step; '
      f'peak {spread(peaks, 0)} MiB'
    )
  print(f'kept / given back: {spread(figures[:, 1, 0] / figures[:, 0, 0])}')


if __name__ == '__main__':
  main()
