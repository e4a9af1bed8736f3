"""Compares the batches of worker processes with those of threads.

python tests/data/batches_of_workers.py FOLDER_OF_JPEGS
"""

import itertools
import os
import pathlib
import signal
import sys

import numpy as np

from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.data.pipeline import (
  make_loader,
  ordered_batches,
  training_batches,
)
from advbct_jax.errors import InputError
from advbct_jax.training.interruption import Interruption


class Deadly:
  """An image that kills whoever reads it."""

  def __len__(self) -> int:
    return 1

  def __getitem__(self, index: int) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError

  def where(self, index: int) -> str:
    return str(index)


def _assert_equal(found, wanted):
  for ours, theirs in zip(found, wanted, strict=True):
    for key in ('image', 'row'):
      np.testing.assert_array_equal(ours[key], theirs[key])


def main(argv: list[str]) -> None:
  folder = pathlib.Path(argv[1])
  names = sorted(path.name for path in folder.glob('*.jpg'))
  load = make_loader(ImageSet('few', names, ImageFiles(folder, names)), 8)
  rows = np.arange(len(names))

  def training(workers):
    return training_batches(load, rows, batch_size=4, seed=0, workers=workers)

  by_workers, by_threads = training(2), training(0)
  _assert_equal(
    itertools.islice(by_workers, 5), list(itertools.islice(by_threads, 5))
  )
  print('training')

  by_threads.close()
  batches = np.array_split(rows, 3)
  _assert_equal(
    ordered_batches(load, batches, workers=2), ordered_batches(load, batches)
  )
  print('ordered')

  # A terminal sends Ctrl-C to all processes; the workers must go on.
  with Interruption():
    os.killpg(os.getpgid(0), signal.SIGINT)
    for _ in range(20):
      next(by_workers)
  by_workers.close()
  print('interrupted')

  deadly = make_loader(ImageSet('deadly', ['a'], Deadly()), 8)
  try:
    next(ordered_batches(deadly, [np.array([0])], workers=1))
  except InputError as error:
    print('killed' if 'ended by SIGKILL' in str(error) else error)


if __name__ == '__main__':
  main(sys.argv)
