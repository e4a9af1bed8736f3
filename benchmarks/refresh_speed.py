"""What a refresh costs: fits, refits, and a query beside two plain searches.

  python -m benchmarks.refresh_speed [--things=100000 --width=768]

Vectors are random, half of the things re-embedded. A query of the policies is
its own vector of either encoder, mapped, searched in two FAISS indexes, brought
to one scale and merged; its peer is the two searches alone, in turns with it.
Of seven rounds the median, and the lowest and highest.
"""

import argparse
import time

import faiss
import numpy as np

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.refresh.known_pairs import know_training_pairs
from advbct_jax.refresh.policies import find_policy
from advbct_jax.refresh.policies.predicted import PredictInterpolate
from advbct_jax.refresh.policy import Queries
from advbct_jax.refresh.scale import fit_scale
from advbct_jax.retrieval.exact_search import keep_best

_ROUNDS = 7
_QUERIES = 64
_CHUNK = 65536
_K = 100


def main() -> None:
  """Prints what is measured."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--things', type=int, default=100_000)
  parser.add_argument('--width', type=int, default=768)
  flags = parser.parse_args()
  count, width = flags.things, flags.width
  old, new = make_pairs(count, width)
  start = time.perf_counter()
  pairs = know_training_pairs(
    (
      (old[rows : rows + _CHUNK], new[rows : rows + _CHUNK])
      for rows in range(0, count, _CHUNK)
    ),
    (width, width),
    count,
  )
  pairs.predictor(0.1)
  print(f'{count} pairs of width {width} taken up and fitted: {since(start)}')
  more = pairs.add(old[:1000], new[:1000])
  start = time.perf_counter()
  more = more.add(old[1000:2000], new[1000:2000])
  part = PredictInterpolate().fit(more)
  print(f'1000 more pairs and a refit: {since(start)}')
  start = time.perf_counter()
  find_policy('auto').fit(more)
  print(f'a choice among settings: {since(start)}')
  half = count // 2
  start = time.perf_counter()
  old_index = faiss.IndexFlatIP(width + 1)
  for rows in range(0, half, _CHUNK):
    stop = min(rows + _CHUNK, half)
    old_index.add(part.rows(old[rows:stop]).astype(np.float32))
  print(f'{half} old vectors laid out anew: {since(start)}')
  plain_index, new_index = faiss.IndexFlatIP(width), faiss.IndexFlatIP(width)
  plain_index.add(old[:half])
  new_index.add(new[half:])
  scale = fit_scale(part, more)
  queries = Queries(new[:_QUERIES], old[:_QUERIES])

  def by_policy() -> None:
    new_scores, new_places = new_index.search(queries.new, _K)
    asked = part.queries(queries, None)
    scores, places = old_index.search(asked.astype(np.float32), _K)
    if scale is not None:
      scores = scale.apply(scores, queries, asked)
    keep_best(
      np.hstack([scores, new_scores]), np.hstack([places, new_places]), _K
    )

  def two_searches() -> None:
    new_index.search(queries.new, _K)
    plain_index.search(queries.needed_old(), _K)

  seconds: dict[str, list[float]] = {'policy': [], 'searches': []}
  for turn in range(_ROUNDS + 1):
    for name, search in (('policy', by_policy), ('searches', two_searches)):
      start = time.perf_counter()
      search()
      if turn:
        seconds[name].append(time.perf_counter() - start)
  ratios = np.array(seconds['policy']) / np.array(seconds['searches'])
  print(
    f'{_QUERIES} queries by the policy / by two searches alone: '
    f'{np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f})'
  )


def make_pairs(count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
  """Random old vectors [N, D], and new ones that follow from them in part."""
  random = np.random.default_rng(0)
  old = unit_rows(random.standard_normal((count, width), np.float32))
  turn = random.standard_normal((width, width), np.float32) / np.sqrt(width)
  new = np.empty_like(old)
  for rows in range(0, count, _CHUNK):
    noise = random.standard_normal(old[rows : rows + _CHUNK].shape, np.float32)
    new[rows : rows + _CHUNK] = unit_rows(
      old[rows : rows + _CHUNK] @ turn + 0.5 * noise / np.sqrt(width)
    )
  return old, new


def since(start: float) -> str:
  """The seconds from a time, in words."""
  return f'{time.perf_counter() - start:.2f} s'


if __name__ == '__main__':
  main()
