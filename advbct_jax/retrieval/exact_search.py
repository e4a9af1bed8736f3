"""Exact search over rows that come chunk by chunk."""

from collections.abc import Iterable

import faiss
import numpy as np


def search_chunks(
  chunks: Iterable[tuple[np.ndarray, np.ndarray]], queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the rows of the greatest inner products.

  Nothing of a chunk is kept but its best, so that rows which are computed on
  the way are never in memory all at once.

  Args:
    chunks: positions [n] and rows [n, W], of N rows in all.
    queries: [Q, W].
    k: how many to find.

  Returns:
    [Q, min(k, N)] float32 inner products, descending, and int64 positions; of
    equal products the lower position is first.
  """
  queries = np.ascontiguousarray(queries, np.float32)
  scores = np.empty((len(queries), 0), np.float32)
  positions = np.empty((len(queries), 0), np.int64)
  for numbers, rows in chunks:
    if not len(rows):
      continue
    found, places = faiss.knn(
      queries,
      np.ascontiguousarray(rows, np.float32),
      min(k, len(rows)),
      faiss.METRIC_INNER_PRODUCT,
    )
    scores = np.hstack([scores, found])
    positions = np.hstack([positions, numbers[places]])
    scores, positions = keep_best(scores, positions, k)
  return scores, positions


def keep_best(
  scores: np.ndarray, positions: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
  """The k greatest scores of each row, descending; equal ones by position."""
  order = np.lexsort((positions, -scores), axis=1)[:, :k]
  return (
    np.take_along_axis(scores, order, axis=1),
    np.take_along_axis(positions, order, axis=1),
  )
