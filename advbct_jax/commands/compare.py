"""Trains and judges a grid of upgrades, methods, starts and seeds."""

from collections.abc import Sequence
import pathlib
import sys

from absl import flags

from advbct_jax.command_line import exit_with_message
from advbct_jax.commands.config_files import (
  default_workdir,
  define_config,
  define_workdir,
)
from advbct_jax.commands.parsing import parse_flags
from advbct_jax.errors import InputError
from advbct_jax.freed_memory import keep_freed_memory
from advbct_jax.locks import hold

_DESCRIPTION = """\
Trains and judges a grid of upgrades, methods and starts, under many seeds.

  advbct compare --config=comparison --config.base.data.root=FOLDER

Every cell is a run in a folder of its own, in a process of its own, several at
a time. The same command goes on where it was stopped; --only, --seeds and
--config may grow the grid later. Tables and plots are written at the end, from
all cells that are done by then."""


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  keep_freed_memory()
  with exit_with_message():
    _compare(parse(sys.argv[1:] if arguments is None else arguments))


def parse(arguments: Sequence[str]) -> flags.FlagValues:
  """Reads the command line, or ends the program."""
  values = flags.FlagValues()
  define_workdir(values)
  flags.DEFINE_list(
    'only',
    [],
    'cells by parts of UPGRADE/METHOD/START/SEED: advbct,l2/old',
    flag_values=values,
  )
  flags.DEFINE_list(
    'seeds', [], "seeds in the config's stead: 0,1,2", flag_values=values
  )
  flags.DEFINE_integer(
    'jobs',
    0,
    'runs at a time; 0 for one a CPU core or GPU',
    lower_bound=0,
    flag_values=values,
  )
  flags.DEFINE_bool(
    'dry_run',
    False,
    'say what would run and how long, and stop',
    flag_values=values,
  )
  flags.DEFINE_string(
    'job', '', 'run this one alone, in this process', flag_values=values
  )
  line = define_config(
    values,
    arguments,
    'the comparison: a file, or the name of one that comes with advbct_jax',
  )
  parse_flags(values, 'advbct compare', _DESCRIPTION, line)
  return values


def _compare(values: flags.FlagValues) -> None:
  from advbct_jax.comparison.cell import check_jobs, require_same_jobs, run_job
  from advbct_jax.comparison.estimate import describe_jobs
  from advbct_jax.comparison.grid import find_job, make_jobs, select
  from advbct_jax.comparison.report import main_metrics, write_tables
  from advbct_jax.comparison.runner import (
    done_seeds,
    find_places,
    mark_done,
    read_cells,
    run_jobs,
  )
  from advbct_jax.data.configured_sets import open_data
  from advbct_jax.experiment import settle_vectors

  root = pathlib.Path(values.workdir or default_workdir(values))
  config = values.config
  if values.seeds:
    if not all(seed.isdigit() for seed in values.seeds):
      raise InputError(
        f'--seeds={",".join(values.seeds)}; wanted: whole numbers, as 0,1,2.'
      )
    config.seeds = tuple(map(int, values.seeds))
  config.base = settle_vectors(config.base, root)
  all_jobs = make_jobs(config)
  if values.job:
    job = find_job(all_jobs, values.job)
    run_job(job, root)
    mark_done(root, job)
    return
  jobs = select(all_jobs, values.only)
  check_jobs(jobs)
  config.seeds = tuple(sorted({*config.seeds, *done_seeds(root)}))
  all_jobs = make_jobs(config)
  require_same_jobs(all_jobs, root)
  retrieval_sets = open_data(config.base, 'config.base')
  places = find_places(values.jobs)
  if values.dry_run:
    print(describe_jobs(jobs, root, places))
    return
  # Of two at once the one that ends last would leave its own cells alone.
  with hold(root, 'compares'):
    failed = run_jobs(
      jobs,
      root,
      places,
      # Whichever way this process was started, it is the way that works here.
      lambda job: [sys.executable, *sys.orig_argv[1:], f'--job={job.name}'],
    )
    if cells := read_cells(all_jobs, root):
      print(write_tables(cells, main_metrics(retrieval_sets), root))
      print(f'tables and plots: {root}/table.md')
  if failed:
    print(
      f'{len(failed)} of {len(jobs)} jobs are not done: '
      + ', '.join(job.name for job in failed),
      file=sys.stderr,
    )
    sys.exit(1)
