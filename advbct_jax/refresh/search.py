"""Searches a gallery of which part is re-embedded."""

from collections.abc import Iterator
import dataclasses

import numpy as np

from advbct_jax.refresh.policy import Neighbours, OldPart, Queries
from advbct_jax.refresh.scale import Scale
from advbct_jax.retrieval.exact_search import keep_best, search_chunks

_CHUNK = 65536


@dataclasses.dataclass(frozen=True)
class StagedGallery:
  """N things, some of which are re-embedded.

  Attributes:
    old: [N, D_old] unit vectors, those of re-embedded things too.
    new: [N, D] unit vectors, of which only those of re-embedded things count.
    done: [N] booleans: what is re-embedded.
  """

  old: np.ndarray
  new: np.ndarray
  done: np.ndarray

  def old_rows(self, part: OldPart) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What is not re-embedded, as a policy lays it into an index."""
    for rows in _chunks(~self.done):
      yield rows, part.rows(self.old[rows])

  def new_rows(
    self, width: int | None
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What is re-embedded."""
    for rows in _chunks(self.done):
      yield rows, _shorten(self.new[rows], width)


def search_cascade(
  gallery: StagedGallery,
  part: OldPart | None,
  scale: Scale | None,
  queries: Queries,
  k: int,
  budget: int,
) -> tuple[np.ndarray, float]:
  """Searches both parts, and ranks the first results by the new encoder.

  Args:
    gallery: N things; the new vectors of the first results are taken from it.
    part: how the old part is searched; None where nothing is old.
    scale: what brings its scores to the new part's; of the same pairs.
    queries: Q of them.
    k: how many to find.
    budget: how many of the first results to re-embed; 0 for none.

  Returns:
    [Q, min(k, N)] positions in the gallery; and how many things had to be
    embedded for a query, in the mean over these, each of which finds embedded
    what another one needed.
  """
  depth = max(k, budget)
  _, ranks = search_staged(gallery, part, scale, queries, depth)
  first = ranks[:, :budget]
  needed = np.unique(first[~gallery.done[first]])
  if len(needed):
    scores = np.einsum('qd,qkd->qk', queries.new, gallery.new[first])
    order = np.argsort(-scores, axis=1, kind='stable')
    ranks[:, :budget] = np.take_along_axis(first, order, axis=1)
  return ranks[:, :k], len(needed) / len(ranks)


def search_staged(
  gallery: StagedGallery,
  part: OldPart | None,
  scale: Scale | None,
  queries: Queries,
  k: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Searches both parts, and merges what is found.

  Where everything is re-embedded this is the search of the new encoder alone,
  and where nothing is, that of the policy in the old gallery.

  Args:
    gallery: N things.
    part: how the old part is searched; None where nothing is old.
    scale: what brings its scores to the new part's; of the same pairs.
    queries: Q of them.
    k: how many to find.

  Returns:
    [Q, min(k, N)] scores, descending, and positions in the gallery.
  """
  if part is None or gallery.done.all():
    return search_chunks(gallery.new_rows(None), queries.new, k)
  width = part.new_width
  new_queries = _shorten(queries.new, width)
  new_scores, new_positions = search_chunks(
    gallery.new_rows(width), new_queries, max(k, part.neighbours)
  )
  neighbours = None
  if part.neighbours and new_positions.shape[1]:
    nearest = new_positions[:, : part.neighbours]
    neighbours = Neighbours(
      new_scores[:, : part.neighbours], gallery.old[nearest]
    )
  old_queries = part.queries(queries, neighbours)
  old_scores, old_positions = search_chunks(
    gallery.old_rows(part), old_queries, k
  )
  if new_scores.shape[1] and old_scores.shape[1]:
    if part.scale == 'rank':
      new_scores = _places(new_scores.shape, int(gallery.done.sum()))
      old_scores = _places(old_scores.shape, int((~gallery.done).sum()))
    elif part.scale == 'known' and scale is not None:
      old_scores = scale.apply(old_scores, queries, old_queries)
  return keep_best(
    np.hstack([new_scores, old_scores]),
    np.hstack([new_positions, old_positions]),
    k,
  )


def _places(shape: tuple[int, int], size: int) -> np.ndarray:
  """Descending scores [Q, k] by the place in a part of some size."""
  return np.broadcast_to(
    -(np.arange(shape[1], dtype=np.float32) + 0.5) / size, shape
  )


def _chunks(wanted: np.ndarray) -> Iterator[np.ndarray]:
  rows = np.flatnonzero(wanted)
  for start in range(0, len(rows), _CHUNK):
    yield rows[start : start + _CHUNK]


def _shorten(rows: np.ndarray, width: int | None) -> np.ndarray:
  """The first components, of length 1; all of them as they are."""
  if width is None or width == rows.shape[1]:
    return rows
  part = rows[:, :width]
  return part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
