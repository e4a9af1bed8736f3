"""Which gallery images answer a query, in the two published forms."""

from collections.abc import Sequence
import dataclasses
from typing import Self

import numpy as np

from advbct_jax.data.images import ImageSet


@dataclasses.dataclass(frozen=True)
class Gldv2GroundTruth:
  """Google Landmarks v2: one list of relevant images a query.

  Attributes:
    relevant: [Q] arrays of gallery positions.
    usage: [Q] `Public`, `Private` or `Ignored`, as published.
  """

  relevant: Sequence[np.ndarray]
  usage: Sequence[str]

  def wanted(self, query: int) -> np.ndarray:
    """The gallery positions that may be found for a query."""
    return self.relevant[query]

  def take(self, queries: np.ndarray, gallery: np.ndarray) -> Self:
    """The ground truth of some queries in a part of the gallery.

    Args:
      queries: [q] positions.
      gallery: [n] positions, ascending.
    """
    return type(self)(
      _renumber(self.relevant, queries, gallery),
      [self.usage[query] for query in queries],
    )


@dataclasses.dataclass(frozen=True)
class RevisitedGroundTruth:
  """Revisited Oxford and Paris: relevant images graded by difficulty.

  Attributes:
    easy: [Q] arrays of gallery positions.
    hard: [Q] arrays of gallery positions.
    junk: [Q] arrays of gallery positions that count neither way.
  """

  easy: Sequence[np.ndarray]
  hard: Sequence[np.ndarray]
  junk: Sequence[np.ndarray]

  def wanted(self, query: int) -> np.ndarray:
    """The gallery positions that may be found for a query, easy and hard."""
    return np.concatenate([self.easy[query], self.hard[query]])

  def take(self, queries: np.ndarray, gallery: np.ndarray) -> Self:
    """The ground truth of some queries in a part of the gallery.

    Args:
      queries: [q] positions.
      gallery: [n] positions, ascending.
    """
    return type(self)(
      *(
        _renumber(grade, queries, gallery)
        for grade in (self.easy, self.hard, self.junk)
      )
    )


def _renumber(
  positions: Sequence[np.ndarray], queries: np.ndarray, gallery: np.ndarray
) -> list[np.ndarray]:
  """Where the images of some queries lie in a part of the gallery."""
  return [np.flatnonzero(np.isin(gallery, positions[q])) for q in queries]


GroundTruth = Gldv2GroundTruth | RevisitedGroundTruth


@dataclasses.dataclass(frozen=True)
class RetrievalSet:
  """A retrieval set.

  Attributes:
    name: what reports call it, such as `roxford5k`.
    queries: Q images to search with.
    gallery: N images to search in.
    ground_truth: what should be found.
  """

  name: str
  queries: ImageSet
  gallery: ImageSet
  ground_truth: GroundTruth
