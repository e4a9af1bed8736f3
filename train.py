"""Trains an encoder that stays compatible with an old one, and judges it.

  python train.py --config=configs/gldv2.py --config.data.root=FOLDER

What the config needs and lacks (the old encoder, its embeddings) is made first.
The same command goes on where it was stopped, or prints the result where all is
done. Any field of the config can be set: --config.batch_size=512.
"""

from collections.abc import Sequence
import json
import pathlib
from typing import Any

from absl import app, flags
import ml_collections
from ml_collections import config_flags

from advbct_jax.command_line import exit_with_message, parse_flags
from advbct_jax.data.configured_sets import open_data
from advbct_jax.embeddings.store import UNSAID_COMPUTE_DTYPE
from advbct_jax.errors import InputError
from advbct_jax.judge import has_embeddings, judge
from advbct_jax.methods import find_method
from advbct_jax.retrieval.report import print_results
from advbct_jax.training.checkpoints import latest_step, read_config
from advbct_jax.training.old_side import old_path
from advbct_jax.training.upgrade import describe_upgrade, train_upgrade
from advbct_jax.training.workdir import require_same_run

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment.')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where everything goes; runs/CONFIG by default.'
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Build everything, say what would be done, and stop.'
)
flags.mark_flag_as_required('config')


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Trains and judges, or prints the result where that is done.

  Args:
    config: of the experiment.
    workdir: where everything goes.
  """
  if latest_step(workdir) is not None:
    require_same_run(workdir, config)
    if results := _finished_results(config, workdir):
      print(f'{workdir}: all done')
      print_results(results)
      print(f'\nreport: {workdir / "report.md"}')
      return
  retrieval_sets = open_data(config)
  old = None
  if find_method(config.method).needs_old_model:
    path = old_path(config, workdir)
    selections = workdir / 'embeddings' / 'old'
    if not config.old.path or has_embeddings(
      path, retrieval_sets, f'{config.data.name}-train', selections
    ):
      old = path
  train_upgrade(config, workdir)
  if not retrieval_sets:
    print('config.evaluation.data names no data set, so nothing is judged')
    return
  judge(
    {'old': old, 'new': workdir},
    retrieval_sets,
    workdir,
    batch_size=config.evaluation.batch_size,
    workers=config.data.workers,
    dtype=config.evaluation.dtype,
  )


def _finished_results(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any] | None:
  """The results of a workdir, if they are what the config asks for.

  Where data or old encoder have moved, they may be others: then everything is
  opened and compared again, which costs little where nothing is left to do.
  """
  path = workdir / 'results.json'
  if not path.exists() or not (workdir / 'report.md').exists():
    return None
  before = read_config(workdir)
  if (before.data.root, before.old.path) != (config.data.root, config.old.path):
    return None
  results = json.loads(path.read_text())
  names = [spec.partition(':')[0] for spec in config.evaluation.data]
  same_protocol = all(
    facts['query_crop'] == config.evaluation.crop_queries
    for facts in results['protocol'].values()
    if facts.get('kind') == 'revisited'
  )
  # An old encoder that could not be judged then may have its vectors now.
  both = (
    'old' in results['encoders']
    or not find_method(config.method).needs_old_model
  )
  new = results['encoders']['new']
  same_dtype = (
    new.get('compute_dtype', UNSAID_COMPUTE_DTYPE) == config.evaluation.dtype
  )
  same_sets = list(results['datasets']) == names
  wanted = same_sets and same_protocol and both and same_dtype
  return results if wanted else None


def main(argv: Sequence[str]) -> None:
  """Runs the command line."""
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {" ".join(argv[1:])}')
  config_file = config_flags.get_config_filename(flags.FLAGS['config'])
  name = pathlib.Path(config_file).stem
  workdir = pathlib.Path(_WORKDIR.value or f'runs/{name}')
  with exit_with_message():
    if not pathlib.Path(config_file).exists():
      raise InputError(f'--config={config_file}: there is no such file.')
    config = _CONFIG.value
    if _DRY_RUN.value:
      open_data(config)
      print(describe_upgrade(config, workdir))
      return
    run(config, workdir)


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
