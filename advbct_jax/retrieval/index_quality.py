"""What an approximate index finds of what there is, and how fast.

Recall is measured against exact search over the embedding store that filled the
index, chunk by chunk, so that memory holds no second copy of the set.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import time

import faiss
import numpy as np

from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.retrieval.index import GalleryIndex
from advbct_jax.retrieval.service_index import read_blocks, sample_rows

RECALL_DEPTHS = (1, 10, 100)

_QUERIES = 1000
_SINGLE_QUERIES = 20
_TIMED_ROUNDS = 7
# Similarities that differ by less are equal but for rounding.
_TIE = 1e-6


@dataclasses.dataclass(frozen=True)
class Rate:
  """Queries a second: the median of some rounds, and their quartiles."""

  median: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Speed:
  """How fast an index answers, beside exact search.

  Attributes:
    queries: how many are asked in one call.
    matches: how many matches each brings back.
    threads: that FAISS used.
    index: of the index.
    exact: of exact search over as many vectors.
  """

  queries: int
  matches: int
  threads: int
  index: Rate
  exact: Rate


@dataclasses.dataclass(frozen=True)
class Measurement:
  """What an index finds, and how fast.

  Attributes:
    queries: how many were asked.
    recall: by depth k, the mean share of the index's first k that belong to the
      exact first k. Vectors as similar as the exact k-th belong to them, so
      copies of one image stand for each other.
    speeds: of many queries in one call, where there are many, and of single
      ones on one thread.
  """

  queries: int
  recall: dict[int, float]
  speeds: tuple[Speed, ...]


def measure_index(
  index: GalleryIndex,
  store: EmbeddingStore,
  queries: EmbeddingStore | None = None,
  seed: int = 0,
) -> Measurement:
  """Compares an index with exact search over the store that filled it.

  Exact search goes through the store chunk by chunk. Its rate is measured on
  the first chunk, in turns with the index, and scaled to all N vectors: its
  work grows with their number.

  Args:
    index: N vectors of width D, in the order of the store.
    store: the N embeddings, whose first D components are compared.
    queries: what to ask with, at most 1000 of them at random; without it, as
      many vectors of the gallery, each left out of its own matches.
    seed: chooses the queries.

  Raises:
    InputError: if the queries are of another width than the index.
  """
  asked, own = _choose_queries(store, queries, seed, index.d)
  others = store.card.count - (own is not None)
  matches = min(RECALL_DEPTHS[-1], others)
  found = _positions(index, asked, matches, own)
  recall = _recall(store, asked, found, matches, own)
  chunk = next(store.chunks())[:, : index.d]
  vectors = unit_rows(np.asarray(chunk, np.float32))
  share = len(vectors) / store.card.count
  depth = max(matches, 1)
  return Measurement(
    queries=len(asked),
    recall=recall,
    speeds=tuple(
      _speed(index, asked, vectors, share, depth, at_once)
      for at_once in sorted({len(asked), 1}, reverse=True)
    ),
  )


def require_comparable_queries(
  queries: EmbeddingStore, gallery: EmbeddingStore, width: int
) -> None:
  """Refuses queries that are not as wide as the index of a gallery.

  Wider ones pass where their encoder has a compatible part of just its width.

  Args:
    queries: what to ask with.
    gallery: what fills the index.
    width: how many of the gallery's first components are in the index.

  Raises:
    InputError: naming both stores and widths.
  """
  card = queries.card
  if width in (card.dimension, card.compatible_dimension):
    return
  remedy = 'Name a store of an encoder that can be compared with it'
  if card.dimension == gallery.card.compatible_dimension:
    remedy = (
      f'Its first {card.dimension} components can be compared: export the '
      'gallery with these alone (--compatible)'
    )
  raise InputError(
    f'{queries.path}: queries of width {card.dimension}, but {gallery.path} '
    f'gives the index vectors of width {width}. {remedy}, or leave --queries '
    'out to ask with vectors of the gallery.'
  )


def _choose_queries(
  store: EmbeddingStore,
  queries: EmbeddingStore | None,
  seed: int,
  width: int,
) -> tuple[np.ndarray, np.ndarray | None]:
  """[Q, D] queries, and their [Q] positions where they are the gallery's."""
  # Another stream than the one that chose the vectors to train on.
  if queries is None:
    own, asked = sample_rows(store, _QUERIES, seed + 1, width)
    return asked, own
  require_comparable_queries(queries, store, width)
  return sample_rows(queries, _QUERIES, seed + 1, width)[1], None


def _positions(
  index: GalleryIndex,
  queries: np.ndarray,
  matches: int,
  own: np.ndarray | None,
) -> np.ndarray:
  """[Q, matches] positions that an index finds, −1 where it finds none."""
  # Below the ids are positions, whatever the ids are.
  inner = index.index
  if own is None:
    return inner.search(queries, matches)[1]
  found = inner.search(queries, matches + 1)[1]
  # The query's own vector goes last, where it is found at all.
  order = np.argsort(found == own[:, None], axis=1, kind='stable')
  return np.take_along_axis(found, order[:, :matches], axis=1)


def _recall(
  store: EmbeddingStore,
  queries: np.ndarray,
  found: np.ndarray,
  matches: int,
  own: np.ndarray | None,
) -> dict[int, float]:
  """The mean share of the first k found that are as similar as they can be.

  Args:
    store: N embeddings.
    queries: [Q, D] of length 1.
    found: [Q, matches] positions, best first.
    matches: how many were looked for.
    own: [Q] positions of the queries, where they are of the store.
  """
  # No vector is more similar to a query than its own, which is left out.
  first = 0 if own is None else 1
  exact = np.empty((len(queries), 0), np.float32)
  similarity = np.full(found.shape, -np.inf, np.float32)
  for start, rows in read_blocks(
    store, 'searching exactly', store.card.chunk_rows, queries.shape[1]
  ):
    k = min(matches + first, len(rows))
    scores, _ = faiss.knn(queries, rows, k, faiss.METRIC_INNER_PRODUCT)
    exact = -np.sort(-np.hstack([exact, scores]))[:, : matches + first]
    query, place = np.nonzero((found >= start) & (found < start + len(rows)))
    similarity[query, place] = np.einsum(
      'nd,nd->n', queries[query], rows[found[query, place] - start]
    )
  exact = exact[:, first:]
  return {
    k: float((similarity[:, :k] >= exact[:, k - 1 : k] - _TIE).mean())
    for k in RECALL_DEPTHS
    if k <= matches
  }


def _speed(
  index: GalleryIndex,
  queries: np.ndarray,
  vectors: np.ndarray,
  share: float,
  matches: int,
  at_once: int,
) -> Speed:
  """Times an index and exact search in turns.

  Args:
    index: N vectors.
    queries: [Q, D] of length 1.
    vectors: [M, D] of length 1.
    share: M/N, which the rate of exact search is scaled by.
    matches: how many to find, at most N.
    at_once: queries in one call. One at a time is one thread's work: many
      would above all wait for each other. Few are asked so, for it is slow.
  """
  if at_once == 1:
    queries = queries[:_SINGLE_QUERIES]
  threads = 1 if at_once == 1 else faiss.omp_get_max_threads()
  exact_matches = min(matches, len(vectors))

  def exactly(asked: np.ndarray) -> None:
    faiss.knn(asked, vectors, exact_matches, faiss.METRIC_INNER_PRODUCT)

  def by_index(asked: np.ndarray) -> None:
    index.search(asked, matches)

  seconds: dict[Callable[[np.ndarray], None], list[float]] = {
    by_index: [],
    exactly: [],
  }
  with _on_threads(threads):
    for turn in range(_TIMED_ROUNDS + 1):
      for search, measured in seconds.items():
        start = time.perf_counter()
        for first in range(0, len(queries), at_once):
          search(queries[first : first + at_once])
        if turn:  # The first one warms up.
          measured.append(time.perf_counter() - start)
  return Speed(
    queries=at_once,
    matches=matches,
    threads=threads,
    index=_rate(len(queries), seconds[by_index]),
    exact=_rate(len(queries) * share, seconds[exactly]),
  )


@contextlib.contextmanager
def _on_threads(count: int) -> Iterator[None]:
  before = faiss.omp_get_max_threads()
  faiss.omp_set_num_threads(count)
  try:
    yield
  finally:
    faiss.omp_set_num_threads(before)


def _rate(queries: float, seconds: Sequence[float]) -> Rate:
  low, median, high = np.percentile(queries / np.array(seconds), (25, 50, 75))
  return Rate(float(median), float(low), float(high))
