"""Revisited metrics over a gallery with distractors: seconds and memory.

  python -m benchmarks.distractors [--distractors=100000] [--dimension=256]

Builds the index of a made-up gallery chunk by chunk, ranks all of it for 70
queries and judges the ranks, as `protocols.measure` does. Prints the peak
memory of each stage above that of the imports, beside what the stage leaves
held: the index, and later the scores and ranks.

One million distractors, the gallery of N = 1,004,993, take by computation

    index            N × 256 × 4 bytes                     0.96 GiB
    scores, ranks    70 × N × (4 + 4) bytes                0.52 GiB
    block of search  16 queries × N × (4 + 8) bytes        0.18 GiB

where 16 = ⌊2^24 / N⌋, so that a block never brings back more than 192 MiB.
Measured with FAISS 1.15.1 on two cores that were busy with other work:

    distractors   held       peak       index   search   metrics
        100,000   0.15 GiB   0.24 GiB     3 s      4 s     0.3 s
        400,000   0.60 GiB   0.73 GiB     7 s     26 s     0.5 s
      1,000,000   1.48 GiB   1.67 GiB    16 s     69 s     1.1 s

At 100,000 the peak is that of making up and normalising a chunk. Beyond this,
FAISS takes memory for each thread that searches: the million peaked at
2.98 GiB with OMP_NUM_THREADS=16, on the same two cores.
"""

import argparse
from collections.abc import Iterator
import time

import numpy as np

from advbct_jax.data.ground_truth import RevisitedGroundTruth
from advbct_jax.embeddings.store import DEFAULT_CHUNK_ROWS
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.retrieval import index as indexing
from advbct_jax.retrieval import metrics
from benchmarks.store_size import peak_gb

# As in Revisited Oxford.
_QUERIES = 70
_JUDGED = 4993

# Images of each grade that a query has, and their cosine similarity to it.
# Among a million random vectors of width 256 the nearest is at about 0.3.
_IMAGES = 20
_SIMILARITY = {'easy': 0.5, 'hard': 0.2, 'junk': 0.5}


def make_ground_truth(random: np.random.Generator) -> RevisitedGroundTruth:
  """Draws each query's images from the judged part of the gallery."""
  shape = (len(_SIMILARITY), _QUERIES, _IMAGES)
  drawn = random.permutation(_JUDGED)[: np.prod(shape)].reshape(shape)
  grades = dict(zip(_SIMILARITY, map(list, drawn), strict=True))
  return RevisitedGroundTruth(**grades)


def gallery_chunks(
  random: np.random.Generator,
  queries: np.ndarray,
  truth: RevisitedGroundTruth,
  distractors: int,
) -> Iterator[np.ndarray]:
  """Makes up the gallery, no more of which is there than a chunk.

  Args:
    random: where vectors are drawn from.
    queries: [Q, D] unit vectors.
    truth: which of the first rows lie near which query.
    distractors: how many rows follow those that are judged.

  Yields:
    [≤ N, D] unit vectors: the judged ones, then chunks of distractors.
  """
  dimension = queries.shape[1]
  judged = unit_rows(random.standard_normal((_JUDGED, dimension), np.float32))
  for grade, similarity in _SIMILARITY.items():
    for query, images in zip(queries, getattr(truth, grade), strict=True):
      judged[images] *= np.sqrt(1 - similarity**2)
      judged[images] += similarity * query
  yield unit_rows(judged)
  for start in range(0, distractors, DEFAULT_CHUNK_ROWS):
    rows = min(DEFAULT_CHUNK_ROWS, distractors - start)
    yield unit_rows(random.standard_normal((rows, dimension), np.float32))


def main() -> None:
  """Prints what each stage takes, beside what its results hold."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--distractors', type=int, default=100_000)
  parser.add_argument('--dimension', type=int, default=256)
  arguments = parser.parse_args()
  dimension = arguments.dimension
  count = _JUDGED + arguments.distractors
  random = np.random.default_rng(0)
  queries = unit_rows(random.standard_normal((_QUERIES, dimension), np.float32))
  truth = make_ground_truth(random)
  imported = peak_gb()

  def report(stage: str, start: float, held: int) -> None:
    seconds = time.perf_counter() - start
    print(
      f'{stage:<8} {seconds:6.1f} s, peak {peak_gb() - imported:.2f} GiB above '
      f'the {imported:.2f} of the imports; held are {held / 2**30:.2f}',
      flush=True,
    )

  start = time.perf_counter()
  chunks = gallery_chunks(random, queries, truth, arguments.distractors)
  index = indexing.build_index(dimension, count, chunks)
  held = count * dimension * 4
  report('index', start, held)
  start = time.perf_counter()
  scores, ranks = indexing.search(index, queries, count)
  held += scores.nbytes + ranks.nbytes
  report('search', start, held)
  start = time.perf_counter()
  measured = metrics.revisited_metrics(ranks, truth)
  report('metrics', start, held)
  for name, value in measured.items():
    if name.endswith('/map'):
      print(f'{name:<10} {100 * value:6.2f}')


if __name__ == '__main__':
  main()
