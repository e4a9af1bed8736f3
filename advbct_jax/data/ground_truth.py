"""Which gallery images answer a query, in the two published forms."""

from collections.abc import Sequence
import dataclasses

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
