"""Service indexes of made-up vectors: recall, size, speed and memory.

  python -m benchmarks.service_index [--vectors=1000000] [--kinds=flat,hnsw]

Fills a store with clustered vectors in a temporary folder, and has `to-faiss`
build and measure each kind in a process of its own. Prints its report and its
peak memory, beside that of an export of few vectors and the size of one copy.
HNSW takes long to build; --vectors=200000 is done in minutes.
"""

import argparse
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.store import Card, create_store
from advbct_jax.retrieval.service_index import OPTIONS

# A landmark has about as many images in GLDv2.
_CLUSTER_SIZE = 20
_FEW = 1000


def clustered_store(path: pathlib.Path, count: int, dimension: int) -> None:
  """Fills a store with vectors round random centres.

  Clusters have about 20 vectors, at a cosine similarity of about 0.5 to each
  other; the centres lie round fewer centres in the same way.

  Args:
    path: the store's folder.
    count: vectors N.
    dimension: their width D.
  """
  rng = np.random.default_rng(0)
  coarse = rng.standard_normal((max(count // 1000, 1), dimension), np.float32)
  clusters = max(count // _CLUSTER_SIZE, 1)
  fine = coarse[rng.integers(0, len(coarse), clusters)]
  fine += rng.standard_normal(fine.shape, np.float32)
  fine /= np.sqrt(2)
  ids = [f'{number:016x}' for number in range(count)]
  card = Card(
    encoder='made-up',
    weights='none',
    dimension=dimension,
    preprocessing='none',
    images='made-up',
    ids_digest=digest_ids(ids),
    count=count,
  )
  store = create_store(path, card, ids)
  for chunk in store.missing_chunks():
    rows = store.rows_of(chunk)
    members = rng.integers(0, clusters, rows.stop - rows.start)
    noise = rng.standard_normal((len(members), dimension), np.float32)
    store.write_chunk(chunk, fine[members] + noise)
  store.finish()


def fill(path: pathlib.Path, count: int, dimension: int) -> None:
  """Runs `clustered_store` in a process of its own.

  What this process has held would count as the peak of those that it starts.
  """
  filling = multiprocessing.get_context('spawn').Process(
    target=clustered_store, args=(path, count, dimension)
  )
  filling.start()
  filling.join()
  if filling.exitcode:
    raise SystemExit(f'{path}: the store could not be filled')


def export(
  store: pathlib.Path, out: pathlib.Path, kind: str
) -> tuple[str, float]:
  """Runs `to-faiss`.

  Returns:
    What it prints, and its peak memory in GiB.
  """
  command = (sys.executable, '-m', 'advbct_jax.convert', 'to-faiss')
  process = subprocess.Popen(
    [*command, str(store), str(out), f'--kind={kind}'],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout is not None
  printed = process.stdout.read()
  _, status, usage = os.wait4(process.pid, 0)
  if process.returncode or status:
    raise SystemExit(f'to-faiss --kind={kind} failed')
  return printed, usage.ru_maxrss / 2**20


def main() -> None:
  """Prints the report of each kind."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--vectors', type=int, default=1_000_000)
  parser.add_argument('--dimension', type=int, default=128)
  parser.add_argument('--kinds', default=','.join(OPTIONS))
  arguments = parser.parse_args()
  count, dimension = arguments.vectors, arguments.dimension
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    fill(root / 'few', _FEW, dimension)
    _, start = export(root / 'few', root / 'few.faiss', 'flat')
    print(
      f'{count} × {dimension}: one float32 copy is '
      f'{count * dimension * 4 / 2**30:.2f} GiB; {_FEW} vectors take a peak '
      f'of {start:.2f} GiB',
      flush=True,
    )
    store = root / 'store'
    fill(store, count, dimension)
    for kind in arguments.kinds.split(','):
      printed, peak = export(store, root / 'index.faiss', kind)
      print(f'\n{printed}peak {peak:.2f} GiB', flush=True)


if __name__ == '__main__':
  main()
