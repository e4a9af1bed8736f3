"""An upgrade under several seeds, beside the encoder without any tie.

  python -m benchmarks.seeds --config=glyphs --data_root=FOLDER

For each seed it trains the old encoder, the new one as the config says, and the
same new one with the method `independent`; judges both against the old one; and
prints a Markdown table of the main metric, all queries, in percent. Workdirs
are runs/seeds/CONFIG/SEED{,-independent}; run again, it goes on. It is for
configs that judge on one data set in GLDv2's layout: glyphs and photos.
"""

import argparse
import importlib
import pathlib

import numpy as np

from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.judge import judge
import train

METHODS = ('configured', 'independent')
COLUMNS = ('old', 'self', 'cross')


def run_seed(
  config_name: str, data_root: str, seed: int, folder: pathlib.Path
) -> dict[str, dict[str, float]]:
  """Trains and judges one seed.

  Args:
    config_name: a module of `configs`.
    data_root: the data set.
    seed: of the training.
    folder: gets the workdirs.

  Returns:
    For each of `METHODS` old, self and cross mAP in percent.
  """
  figures = {}
  old = folder / str(seed) / 'old'
  for method in METHODS:
    config = importlib.import_module(f'configs.{config_name}').get_config()
    config.data.root = data_root
    config.seed = seed
    workdir = folder / str(seed)
    if method == 'independent':
      config.method = 'independent'
      workdir = folder / f'{seed}-independent'
    train.run(config, workdir)
    results = judge(
      {'old': old, 'new': workdir},
      open_retrieval_sets(config.evaluation.data, data_root, crop_queries=True),
      workdir / 'against-old',
      batch_size=config.evaluation.batch_size,
      workers=config.data.workers,
    )
    (measured,) = results['datasets'].values()
    figures[method] = {
      column: measured[column]['all/map@100'] for column in COLUMNS
    }
  return figures


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--config', default='glyphs')
  parser.add_argument('--data_root', required=True)
  parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
  arguments = parser.parse_args()
  folder = pathlib.Path('runs/seeds') / arguments.config
  runs = [
    run_seed(arguments.config, arguments.data_root, seed, folder)
    for seed in arguments.seeds
  ]
  print('\n| seed | old | self | cross | independent self | cross |')
  print('| --- | ---: | ---: | ---: | ---: | ---: |')
  rows = np.array(
    [
      [run['configured'][column] for column in COLUMNS]
      + [run['independent'][column] for column in ('self', 'cross')]
      for run in runs
    ]
  )
  for seed, row in zip(arguments.seeds, rows, strict=True):
    print(f'| {seed} | ' + ' | '.join(f'{value:.1f}' for value in row) + ' |')
  summary = zip(rows.mean(axis=0), rows.std(axis=0, ddof=1), strict=True)
  cells = ' | '.join(f'{mean:.1f} ± {std:.1f}' for mean, std in summary)
  print(f'| mean ± deviation | {cells} |')


if __name__ == '__main__':
  main()
