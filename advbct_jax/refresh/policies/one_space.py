"""Policies that leave the old part's vectors and spaces as they are."""

import dataclasses

import numpy as np

from advbct_jax.refresh.known_pairs import KnownPairs
from advbct_jax.refresh.policy import Neighbours, OldPart, Policy, Queries


@dataclasses.dataclass(frozen=True)
class _OldQueries(OldPart):
  """Old queries on old vectors."""

  scale: str = 'known'

  def queries(
    self, queries: Queries, neighbours: Neighbours | None
  ) -> np.ndarray:
    return queries.needed_old()


@dataclasses.dataclass(frozen=True)
class _CompatibleQueries(OldPart):
  """New queries, which compare with old vectors, on old vectors."""

  width: int
  scale: str = 'raw'

  @property
  def new_width(self) -> int:  # type: ignore[override]
    return self.width

  def queries(
    self, queries: Queries, neighbours: Neighbours | None
  ) -> np.ndarray:
    part = queries.new[:, : self.width]
    return part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)


@dataclasses.dataclass(frozen=True)
class Old(Policy):
  """Old queries on the old part, new ones on the new part, one scale.

  References:
    Seo et al., "Online backfilling with no regret for large-scale image
    retrieval", WACV 2025.
  """

  needs_old = True
  label = 'old'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Nothing but the scale follows the pairs."""
    return _OldQueries()


@dataclasses.dataclass(frozen=True)
class RankMerge(Policy):
  """Old queries on the old part, new ones on the new part, merged by rank.

  A thing's place is its rank within its part, as a part of the part's size.

  References:
    Seo et al., "Online backfilling with no regret for large-scale image
    retrieval", WACV 2025, merge by distance, after training for it.
  """

  needs_old = True
  label = 'rank merge'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Nothing follows the pairs."""
    return _OldQueries(scale='rank')


@dataclasses.dataclass(frozen=True)
class Trained(Policy):
  """New vectors stand among old ones: a compatible encoder or head.

  Of wider new vectors the first components are compared, as training ties them.
  """

  label = 'trained'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Nothing follows the pairs."""
    return _CompatibleQueries(pairs.gallery.old.shape[1])
