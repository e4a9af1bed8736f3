"""How long an adapter takes to fit, beside plain NumPy on arrays in memory.

  python -m benchmarks.adapter_fitting [--pairs=50000] [--kinds=procrustes]

Fills two stores of made-up vectors in a temporary folder (8 bytes a component
and pair), and fits each kind to them in turns with the peer: a rotation from
one product of two arrays that are in memory already, without their reading.
Prints the times and the peak memory of the process. A million pairs are
--pairs=1000000 --rounds=1 --nopeer; the peer would hold 6 GB and copies.
"""

import argparse
from collections.abc import Callable
import functools
import pathlib
import resource
import tempfile

import numpy as np

from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.store import Card, EmbeddingStore, create_store
from advbct_jax.embeddings.unit_vectors import unit_rows
from benchmarks.timing import spread, time_in_turns


def write_stores(
  folder: pathlib.Path, count: int, width: int
) -> tuple[EmbeddingStore, EmbeddingStore]:
  """Fills a new and an old store, a noisy rotation of each other.

  Args:
    folder: where they go.
    count: pairs N.
    width: D of both.
  """
  random = np.random.default_rng(0)
  turn = np.linalg.qr(random.standard_normal((width, width), np.float32))[0]
  ids = [f'{number:016x}' for number in range(count)]
  new, old = (
    create_store(
      folder / name,
      Card('made-up', name, width, 'none', 'made-up', digest_ids(ids), count),
      ids,
    )
    for name in ('new', 'old')
  )
  with new.filling(), old.filling():
    for chunk in new.missing_chunks():
      rows = new.rows_of(chunk)
      vectors = random.standard_normal(
        (rows.stop - rows.start, width), np.float32
      )
      new.write_chunk(chunk, vectors)
      vectors = vectors @ turn
      vectors += random.standard_normal(vectors.shape, np.float32)
      old.write_chunk(chunk, vectors)
    return new.finish(), old.finish()


def main() -> None:
  """Prints what was measured."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--pairs', type=int, default=50_000)
  parser.add_argument('--width', type=int, default=768)
  parser.add_argument('--kinds', default='procrustes')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--nopeer', action='store_true')
  flags = parser.parse_args()
  kinds = flags.kinds.split(',')
  for kind in kinds:
    if kind not in ADAPTERS:
      parser.error(f'{kind}: wanted: of {", ".join(ADAPTERS)}')
  with tempfile.TemporaryDirectory() as folder:
    new, old = write_stores(pathlib.Path(folder), flags.pairs, flags.width)
    fits: dict[str, Callable[[], object]] = {
      kind: functools.partial(fit_adapter, kind, new, old) for kind in kinds
    }
    if not flags.nopeer:
      arrays = new.read(), old.read()

      def fit_in_memory() -> np.ndarray:
        left, _, right = np.linalg.svd(
          unit_rows(arrays[0]).T @ unit_rows(arrays[1])
        )
        return left @ right

      fits['NumPy, in memory'] = fit_in_memory
    seconds = time_in_turns(fits, flags.rounds)
  print(f'{flags.pairs} pairs of width {flags.width}, {flags.rounds} rounds')
  for name, values in seconds.items():
    print(f'{name}: {spread(values)} s')
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(f'peak memory: {peak:.1f} GB, the making of the vectors among it')


if __name__ == '__main__':
  main()
