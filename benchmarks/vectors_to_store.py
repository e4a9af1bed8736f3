"""Vectors of a file become a store: how fast, and in how much memory.

  python -m benchmarks.vectors_to_store [--vectors=10000000] [--dimension=256]

Generates a .npy file of made-up vectors with ids beside it, runs `to-store` on
it, and beside it its peer, which only loads the vectors and saves them again.
Each runs in a process of its own; printed are seconds, vectors a second and the
process's peak memory.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import tqdm

from advbct_jax.errors import InputError

_BLOCK = 65536
_COPY = 'import sys, numpy; numpy.save(sys.argv[2], numpy.load(sys.argv[1]))'


def generate(path: pathlib.Path, count: int, dimension: int) -> None:
  """Writes made-up vectors and NAME.ids.txt, in blocks.

  Args:
    path: NAME.npy.
    count: the number of vectors N.
    dimension: their width D.
  """
  random = np.random.default_rng(0)
  header = np.lib.format.header_data_from_array_1_0(np.empty(0, np.float32))
  header['shape'] = (count, dimension)
  with (
    path.open('wb') as vectors,
    path.with_suffix('.ids.txt').open('w', encoding='utf-8') as ids,
  ):
    np.lib.format.write_array_header_1_0(vectors, header)
    for start in tqdm.trange(0, count, _BLOCK, desc='generating'):
      rows = range(start, min(start + _BLOCK, count))
      shape = (len(rows), dimension)
      vectors.write(random.standard_normal(shape, np.float32).data)
      ids.writelines(f'{row:016x}\n' for row in rows)


def measure(name: str, count: int, arguments: list[str]) -> None:
  """Runs Python and prints what it took.

  Args:
    name: what it is called.
    count: how many vectors it works on.
    arguments: of Python.
  """
  start = time.perf_counter()
  process = subprocess.Popen([sys.executable, *arguments])
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  seconds = time.perf_counter() - start
  if process.returncode:
    raise SystemExit(f'{name} failed with status {process.returncode}')
  print(
    f'{name:<22} {seconds:7.1f} s {count / seconds:10.0f} vectors/s   '
    f'peak {usage.ru_maxrss / 2**20:.2f} GiB',
    flush=True,
  )


def main() -> None:
  """Prints what the command and its peer take."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--vectors', type=int, default=10_000_000)
  parser.add_argument('--dimension', type=int, default=256)
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    size = flags.vectors * flags.dimension * 4
    free = shutil.disk_usage(folder).free
    # The file, and then one store or copy of it.
    needed = int(2.1 * size)
    if free < needed:
      raise InputError(
        f'{folder}: {free / 2**30:.1f} GiB are free, {needed / 2**30:.1f} are '
        'needed. Make room, or set TMPDIR to another disk.'
      )
    print(f'{flags.vectors} × {flags.dimension}: {size / 2**30:.2f} GiB')
    vectors, store = folder / 'vectors.npy', folder / 'store'
    generate(vectors, flags.vectors, flags.dimension)
    command = ['-m', 'advbct_jax.convert', 'to-store', str(vectors), str(store)]
    measure('to-store', flags.vectors, [*command, '--encoder=made-up'])
    shutil.rmtree(store)
    copy = [str(vectors), str(folder / 'copy.npy')]
    measure('numpy.load, numpy.save', flags.vectors, ['-c', _COPY, *copy])


if __name__ == '__main__':
  main()
