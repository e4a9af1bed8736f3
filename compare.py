r"""Trains and judges a grid of upgrades, methods and starts, under many seeds.

  python compare.py --config=configs/comparison.py \
    --config.base.data.root=FOLDER

Every cell is a run in a folder of its own, in a process of its own, several at
a time. The same command goes on where it was stopped; --only, --seeds and
--config may grow the grid later. Tables and plots are written at the end, from
all cells that are done by then.
"""

from collections.abc import Sequence
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

from advbct_jax.command_line import exit_with_message, parse_flags
from advbct_jax.comparison.cell import (
  check_jobs,
  require_same_jobs,
  run_job,
)
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
from advbct_jax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The comparison.')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where everything goes; runs/CONFIG by default.'
)
_ONLY = flags.DEFINE_list(
  'only', [], 'Cells by parts of UPGRADE/METHOD/START/SEED: advbct,l2/old'
)
_SEEDS = flags.DEFINE_list('seeds', [], "Seeds in the config's stead: 0,1,2")
_JOBS = flags.DEFINE_integer(
  'jobs', 0, 'Runs at a time; 0 for one a CPU core or GPU.', lower_bound=0
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Say what would run and how long, and stop.'
)
_JOB = flags.DEFINE_string('job', '', 'Run this one alone, in this process.')
flags.mark_flag_as_required('config')


def main(argv: Sequence[str]) -> None:
  """Runs the command line."""
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {" ".join(argv[1:])}')
  config_file = config_flags.get_config_filename(flags.FLAGS['config'])
  root = pathlib.Path(
    _WORKDIR.value or f'runs/{pathlib.Path(config_file).stem}'
  )
  with exit_with_message():
    config = _CONFIG.value
    if _SEEDS.value:
      if not all(seed.isdigit() for seed in _SEEDS.value):
        raise InputError(
          f'--seeds={",".join(_SEEDS.value)}; wanted: whole numbers, as 0,1,2.'
        )
      config.seeds = tuple(map(int, _SEEDS.value))
    all_jobs = make_jobs(config)
    if _JOB.value:
      job = find_job(all_jobs, _JOB.value)
      run_job(job, root)
      mark_done(root, job)
      return
    jobs = select(all_jobs, _ONLY.value)
    check_jobs(jobs)
    config.seeds = tuple(sorted({*config.seeds, *done_seeds(root)}))
    all_jobs = make_jobs(config)
    require_same_jobs(all_jobs, root)
    retrieval_sets = open_data(config.base, 'config.base')
    places = find_places(_JOBS.value)
    if _DRY_RUN.value:
      print(describe_jobs(jobs, root, places))
      return
    root.mkdir(parents=True, exist_ok=True)
    failed = run_jobs(
      jobs,
      root,
      places,
      lambda job: [sys.executable, *sys.argv, f'--job={job.name}'],
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


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
