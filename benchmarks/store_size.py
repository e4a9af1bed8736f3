"""A store of GLDv2's size: written, read and measured in chunks.

  python -m benchmarks.store_size [--images=1580470] [--dimension=256]

Fills a store with made-up embeddings chunk by chunk, reads it into the one copy
that training holds, and computes the class statistics. Prints the seconds and
the peak memory of each stage, beside the size of one copy.
"""

import argparse
import pathlib
import resource
import tempfile
import time

import numpy as np

from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.embeddings.store import Card, create_store, open_store


def peak_gb() -> float:
  """The most memory that this process has held so far."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
  """Prints what each stage takes."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--images', type=int, default=1_580_470)
  parser.add_argument('--classes', type=int, default=81_313)
  parser.add_argument('--dimension', type=int, default=256)
  arguments = parser.parse_args()
  count, dimension = arguments.images, arguments.dimension
  random = np.random.default_rng(0)
  ids = [f'{number:016x}' for number in range(count)]
  labels = np.sort(random.integers(0, arguments.classes, count))
  card = Card(
    encoder='made-up',
    weights='none',
    dimension=dimension,
    preprocessing='none',
    images='made-up',
    ids_digest=digest_ids(ids),
    count=count,
  )
  print(
    f'{count} × {dimension}: one float32 copy is '
    f'{count * dimension * 4 / 2**30:.2f} GiB'
  )

  def report(stage: str, start: float) -> None:
    seconds = time.perf_counter() - start
    print(f'{stage:<12} {seconds:6.1f} s, peak {peak_gb():.2f} GiB')

  with tempfile.TemporaryDirectory() as folder:
    report('start', time.perf_counter())
    start = time.perf_counter()
    store = create_store(pathlib.Path(folder) / 'store', card, ids)
    for chunk in store.missing_chunks():
      rows = store.rows_of(chunk)
      shape = (rows.stop - rows.start, dimension)
      store.write_chunk(chunk, random.standard_normal(shape, np.float32))
    path = store.finish().path
    report('write', start)
    start = time.perf_counter()
    embeddings = open_store(path).read()
    report('read', start)
    start = time.perf_counter()
    class_statistics(embeddings, labels, arguments.classes)
    report('statistics', start)


if __name__ == '__main__':
  main()
