"""Packing and embedding by Beam's local workers, beside the plain commands.

  python -m benchmarks.beam_speed RUN NAME:ROOT [--rounds=3]

RUN is the workdir of a finished run, or what from-pytorch makes of weights. In
turns each command is run plainly and with --beam, each time in processes of its
own, and their results are compared: records file by file, stores by the digests
of their chunks. Prints how many times as long Beam took by the clock, starting
included, median and quartiles.
"""

import argparse
from collections.abc import Sequence
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

from advbct_jax.embeddings.store import open_store
from benchmarks.timing import spread


def main() -> None:
  """Prints the ratios."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('run', type=pathlib.Path)
  parser.add_argument('data', help='NAME:ROOT')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--chunk_rows', type=int, default=400)
  parser.add_argument('--longest_side', type=int, default=48)
  parser.add_argument('--local_workers', type=int, default=2)
  flags = parser.parse_args()
  options = (
    f'--beam=--direct_num_workers={flags.local_workers} '
    '--direct_running_mode=multi_processing'
  )
  ratios: dict[str, list[float]] = {'records': [], 'embed': []}
  for _ in range(flags.rounds):
    with tempfile.TemporaryDirectory() as folder:
      records = [pathlib.Path(folder, name) for name in ('plain', 'beam')]
      runs = [pathlib.Path(folder, name) for name in ('run', 'beam_run')]
      pack = ['prepare', 'records', flags.data]
      shape = f'--longest_side={flags.longest_side}'
      plain = _run([*pack, str(records[0]), shape])
      beam = _run([*pack, str(records[1]), shape, options])
      ratios['records'].append(beam / plain)
      _require_equal(*map(_files, records))
      for run in runs:
        # Without the stores that are there already.
        shutil.copytree(
          flags.run, run, ignore=shutil.ignore_patterns('embeddings')
        )
      embed = [
        f'--data={flags.data}',
        f'--chunk_rows={flags.chunk_rows}',
        '--batch_size=100',
      ]
      plain = _run(['embed', str(runs[0]), *embed])
      beam = _run(['embed', str(runs[1]), *embed, options])
      ratios['embed'].append(beam / plain)
      _require_equal(*map(_stores, runs))
  for name, values in ratios.items():
    print(f'{name:<8} time, Beam / plain: {spread(np.array(values), 2)}')
  print('results: identical')


def _run(line: Sequence[str]) -> float:
  """Runs `advbct` and gives its seconds by the clock."""
  start = time.perf_counter()
  subprocess.run([sys.executable, '-m', 'advbct_jax', *line], check=True)
  return time.perf_counter() - start


def _files(folder: pathlib.Path) -> dict[str, bytes]:
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def _stores(run: pathlib.Path) -> dict[str, object]:
  stores = map(open_store, (run / 'embeddings').iterdir())
  return {store.path.name: (store.card, store.digest()) for store in stores}


def _require_equal(plain: object, beam: object) -> None:
  if plain != beam:
    raise SystemExit('the results differ')


if __name__ == '__main__':
  main()
