"""What a refresh costs: fits, refits, and a query beside two plain searches.

  python -m benchmarks.refresh_speed [--things=100000 --width=768]

Made-up vectors lie in two files (8 bytes a component and thing), of which rows
are mapped a chunk at a time. Of every stage there are the seconds by the clock,
those of all cores together, and the most memory that the process has held so
far. Half of the things are re-embedded. A query of a policy is mapped, searched
in both halves, brought to one scale and merged; its peer is the two searches
alone, in turns with it: of the ratios by the core-seconds the median, and the
quartiles.
"""

import argparse
from collections.abc import Callable, Iterator
import contextlib
import os
import pathlib
import tempfile
import time

import faiss
import numpy as np

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.refresh.known_pairs import know_training_pairs
from advbct_jax.refresh.policies import find_policy
from advbct_jax.refresh.policies.predicted import PredictInterpolate
from advbct_jax.refresh.policy import Neighbours, OldPart, Queries
from advbct_jax.refresh.scale import Scale, fit_scale
from advbct_jax.retrieval.exact_search import keep_best
from benchmarks.store_size import peak_gb
from benchmarks.timing import spread

_QUERIES = 64
_CHUNK = 65536
_K = 100


def main() -> None:
  """Prints what is measured."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--things', type=int, default=100_000)
  parser.add_argument('--width', type=int, default=768)
  parser.add_argument('--rounds', type=int, default=7)
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    with timed('vectors made up'):
      files = write_vectors(pathlib.Path(folder), flags.things, flags.width)
    measure(*files, rounds=flags.rounds)


def measure(old: 'VectorFile', new: 'VectorFile', rounds: int) -> None:
  """Prints what each stage of a refresh takes."""
  count, width = old.count, old.width
  with timed(f'{count} pairs of width {width} taken up and fitted'):
    chunks = (
      (old.rows(start, start + _CHUNK), new.rows(start, start + _CHUNK))
      for start in range(0, count, _CHUNK)
    )
    pairs = know_training_pairs(chunks, (width, width), count)
    pairs.predictor(0.1)
  pairs = pairs.add(old.rows(0, 1000), new.rows(0, 1000))
  with timed('1000 more pairs and a refit'):
    pairs = pairs.add(old.rows(1000, 2000), new.rows(1000, 2000))
    predicted = PredictInterpolate().fit(pairs)
  for name in ('auto', 'auto_new'):
    with timed(f'{name}, a choice among settings'):
      find_policy(name).fit(pairs)
  half = count // 2
  rows = np.empty((half, width + 1), np.float32)
  with timed(f'{half} old vectors laid out anew'):
    for start in range(0, half, _CHUNK):
      stop = min(start + _CHUNK, half)
      rows[start:stop] = predicted.rows(old.rows(start, stop))
  old_half, new_half = old.rows(0, half), new.rows(half, count)
  queries = Queries(new_half[:_QUERIES], old_half[:_QUERIES])
  bridge = find_policy('bridge').fit(pairs)
  for name, part, laid_out in (
    ('predict_interpolate', predicted, rows),
    ('bridge', bridge, old_half),
  ):
    scale = fit_scale(part, pairs)
    ratios = time_in_turns(
      lambda part=part, laid_out=laid_out, scale=scale: search_by(  # type: ignore[misc]
        part, scale, queries, laid_out, new_half, old.rows(half, count)
      ),
      lambda: (
        search(new_half, queries.new),
        search(old_half, queries.needed_old()),
      ),
      rounds,
    )
    print(
      f'{_QUERIES} queries by {name} / two searches alone: {spread(ratios)}'
    )


def search_by(
  part: OldPart,
  scale: Scale | None,
  queries: Queries,
  laid_out: np.ndarray,
  new_half: np.ndarray,
  old_of_new_half: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Searches both halves as a service would that holds them in memory."""
  new_scores, new_places = search(new_half, queries.new)
  neighbours = None
  if part.neighbours:
    nearest = new_places[:, : part.neighbours]
    neighbours = Neighbours(
      new_scores[:, : part.neighbours], old_of_new_half[nearest]
    )
  asked = part.queries(queries, neighbours)
  scores, places = search(laid_out, asked)
  if scale is not None:
    scores = scale.apply(scores, queries, asked)
  return keep_best(
    np.hstack([scores, new_scores]),
    np.hstack([places, len(laid_out) + new_places]),
    _K,
  )


def search(rows: np.ndarray, queries: np.ndarray) -> tuple:
  """The best inner products of rows and their places, by FAISS."""
  return faiss.knn(
    np.ascontiguousarray(queries, np.float32),
    rows,
    _K,
    faiss.METRIC_INNER_PRODUCT,
  )


def time_in_turns(
  policy: Callable[[], object], searches: Callable[[], object], rounds: int
) -> np.ndarray:
  """[rounds] ratios of the core-seconds of two functions, called in turns."""
  policy(), searches()
  ratios = []
  for _ in range(rounds):
    times = [time.process_time()]
    for function in (policy, searches):
      function()
      times.append(time.process_time())
    ratios.append((times[1] - times[0]) / (times[2] - times[1]))
  return np.array(ratios)


class VectorFile:
  """Vectors [N, D] float32 in a flat file, of which rows are mapped."""

  def __init__(self, path: pathlib.Path, count: int, width: int):
    self.path, self.count, self.width = path, count, width

  def rows(self, start: int, stop: int) -> np.ndarray:
    """Maps the rows from `start` to before `stop` or the end."""
    stop = min(stop, self.count)
    return np.memmap(
      self.path,
      np.float32,
      'r',
      offset=4 * start * self.width,
      shape=(stop - start, self.width),
    )


def write_vectors(
  folder: pathlib.Path, count: int, width: int
) -> tuple[VectorFile, VectorFile]:
  """Random old vectors, and new ones that follow from them in part."""
  random = np.random.default_rng(0)
  order = random.permutation(width)
  files = [VectorFile(folder / side, count, width) for side in ('old', 'new')]
  with open(files[0].path, 'wb') as old_file, open(files[1].path, 'wb') as file:
    for start in range(0, count, _CHUNK):
      shape = (min(_CHUNK, count - start), width)
      old = random.standard_normal(shape, np.float32)
      unit_rows(old).tofile(old_file)
      old = np.take(old, order, axis=1)
      old += 0.5 * random.standard_normal(shape, np.float32)
      unit_rows(old).tofile(file)
  return files[0], files[1]


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
  """Prints what the lines within took."""
  start, core_start = time.perf_counter(), time.process_time()
  yield
  seconds = time.perf_counter() - start
  core_seconds = time.process_time() - core_start
  print(
    f'{what}: {seconds:.2f} s, {core_seconds:.2f} core-seconds, '
    f'peak {peak_gb():.2f} GB, load {os.getloadavg()[0]:.1f}',
    flush=True,
  )


if __name__ == '__main__':
  main()
