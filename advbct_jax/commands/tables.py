"""Writes the tables and plots of comparisons anew."""

import argparse
from collections.abc import Sequence
import pathlib

from advbct_jax.command_line import exit_with_message
from advbct_jax.commands.parsing import Parser
from advbct_jax.errors import InputError


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  flags = parse(arguments)
  with exit_with_message():
    from advbct_jax.comparison.report import write_tables
    from advbct_jax.comparison.results import leave_out, read_results
    from advbct_jax.retrieval.protocols import MAIN_METRICS

    cells = [cell for path in flags.results for cell in read_results(path)]
    if not cells:
      raise InputError(
        f'{", ".join(map(str, flags.results))}: no cells; wanted: the results '
        'of a comparison that has finished at least one.'
      )
    if flags.without:
      cells = leave_out(cells, flags.without.split(','))
    metrics = flags.metrics.split(',') if flags.metrics else MAIN_METRICS
    print(write_tables(cells, metrics, flags.out, flags.against))
    print(f'tables and plots: {flags.out}/table.md')


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line, or ends the program."""
  parser = Parser(
    prog='advbct tables',
    description='Writes the tables and plots of comparisons anew: by another '
    'metric, or of cells that were measured in several folders or machines.',
  )
  parser.add_argument(
    'results', nargs='+', type=pathlib.Path, help='results.json of a comparison'
  )
  parser.add_argument('out', type=pathlib.Path, help='the folder for them')
  parser.add_argument(
    '--metrics',
    default='',
    help='the first of these that a data set has, such as public/map@100 '
    '(the main metric of its protocol)',
  )
  parser.add_argument(
    '--against',
    default='',
    metavar='METHOD/START',
    help='also tables of what each row has more than this one, seed by seed',
  )
  parser.add_argument(
    '--without',
    default='',
    metavar='PARTS',
    help='leave out cells by parts of UPGRADE/METHOD/START: lwf,bct/old',
  )
  return parser.parse_args(arguments)
