"""The flags of the commands that several processes share."""

import argparse
from typing import Any

from absl import flags

from advbct_jax import processes

_TEXTS = {
  'coordinator': (
    str,
    'HOST:PORT where the first of several processes listens; Slurm, Open MPI '
    'and TPU pods say it themselves',
  ),
  'processes': (
    int,
    'how many processes share the work; 1 has this one work by itself whatever '
    'Slurm says',
  ),
  'process': (int, 'which of them this is, from 0'),
}
_DEAD_AFTER = (
  'seconds without a sign of life after which a process counts as dead and the '
  'others end'
)


def define_processes(values: flags.FlagValues) -> None:
  """Defines the flags for a command that takes absl's."""
  for name, (kind, text) in _TEXTS.items():
    define = flags.DEFINE_string if kind is str else flags.DEFINE_integer
    define(name, None, text, flag_values=values)
  flags.DEFINE_integer(
    'dead_after', processes.DEAD_AFTER, _DEAD_AFTER, flag_values=values
  )


def add_processes(parser: argparse.ArgumentParser) -> None:
  """Defines the flags for a command that takes argparse's."""
  for name, (kind, text) in _TEXTS.items():
    parser.add_argument(f'--{name}', type=kind, help=text)
  parser.add_argument(
    '--dead_after',
    type=int,
    default=processes.DEAD_AFTER,
    help=f'{_DEAD_AFTER} (%(default)s)',
  )


def start_processes(values: Any) -> None:
  """Joins the processes that the parsed flags name, or the scheduler."""
  processes.start(
    values.coordinator, values.processes, values.process, values.dead_after
  )
