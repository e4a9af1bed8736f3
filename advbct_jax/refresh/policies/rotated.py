"""Policies that turn new queries into the old space."""

import dataclasses

import numpy as np

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.refresh.known_pairs import KnownPairs
from advbct_jax.refresh.policy import Neighbours, OldPart, Policy, Queries
from advbct_jax.refresh.rotation import fit_rotation


@dataclasses.dataclass(frozen=True)
class _Rotated(OldPart):
  """Turned new queries on old vectors.

  Attributes:
    rotation: [D, D_old].
    old_weight: of the old query beside the turned one.
    slope: how much less it weighs, in log-odds, for each unit of the cosine of
      the two.
    usual_cosine: where it weighs `old_weight`.
    bridge_weight: of the neighbours' old vectors beside both.
    temperature: of the softmax over the neighbours' scores.
  """

  rotation: np.ndarray
  old_weight: float = 0.0
  slope: float = 0.0
  usual_cosine: float = 0.0
  bridge_weight: float = 0.0
  temperature: float = 1.0
  neighbours: int = 0
  scale: str = 'known'

  def queries(
    self, queries: Queries, neighbours: Neighbours | None
  ) -> np.ndarray:
    turned = queries.new @ self.rotation
    if self.old_weight:
      old = queries.needed_old()
      weight = self._weigh_old(np.sum(old * turned, axis=1, keepdims=True))
      turned = weight * old + (1 - weight) * turned
    if neighbours is not None and self.bridge_weight:
      scores = neighbours.scores / self.temperature
      softmax = np.exp(scores - scores.max(axis=1, keepdims=True))
      softmax /= softmax.sum(axis=1, keepdims=True)
      bridge = np.einsum('qk,qkd->qd', softmax, neighbours.old)
      turned = (1 - self.bridge_weight) * unit_rows(turned)
      turned = turned + self.bridge_weight * bridge
    return unit_rows(turned)

  def _weigh_old(self, cosines: np.ndarray) -> np.ndarray | float:
    """The old query's weight, [Q, 1] where it depends on the cosines."""
    if not self.slope:
      return self.old_weight
    steepness = np.exp(self.slope * (cosines - self.usual_cosine))
    return self.old_weight / (
      self.old_weight + (1 - self.old_weight) * steepness
    )


@dataclasses.dataclass(frozen=True)
class Fixed(Policy):
  """A rotation fitted to the training images beforehand, and kept."""

  label = 'fixed rotation'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Fits the rotation to training pairs; without any, to what there is."""
    known = pairs.training.total if pairs.training.count else pairs.sums
    return _Rotated(fit_rotation(known), scale='raw')


@dataclasses.dataclass(frozen=True)
class Refit(Policy):
  """A rotation that follows the pairs; both parts on one scale."""

  label = 'refitted rotation'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Fits the rotation to all pairs."""
    return _Rotated(pairs.rotation)


@dataclasses.dataclass(frozen=True)
class Interpolate(Policy):
  """The old query and the turned new one, interpolated.

  References:
    Ricci et al., NeurIPS 2026 (arXiv 2609.39836); a normalised linear
    interpolation ranks as their spherical one.

  Attributes:
    old_weight: of the old query, from 0 to 1.
  """

  old_weight: float = 0.5

  needs_old = True
  label = 'interpolated'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Fits the rotation to all pairs."""
    _require_weight('old_weight', self.old_weight)
    return _Rotated(pairs.rotation, old_weight=self.old_weight)


@dataclasses.dataclass(frozen=True)
class InterpolateBy(Interpolate):
  """The same, by how far the two queries agree.

  The new query weighs σ(b + s·⟨u, v⟩), u being the old query and v the turned
  new one; b is such that it weighs 1 − `old_weight` where ⟨u, v⟩ is as it is in
  the mean over all pairs.

  Attributes:
    old_weight: of the old query at the usual cosine, between 0 and 1.
    slope: s.
  """

  slope: float = 4.0

  label = 'interpolated by cosine'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Fits the rotation to all pairs."""
    _require_weight('old_weight', self.old_weight)
    sums, rotation = pairs.sums, pairs.rotation
    usual_cosine = float(np.sum(sums.xy.T * rotation) / sums.count)
    return _Rotated(
      rotation,
      old_weight=self.old_weight,
      slope=self.slope,
      usual_cosine=usual_cosine,
    )


@dataclasses.dataclass(frozen=True)
class Bridge(Policy):
  """To the turned query, old vectors of its re-embedded neighbours are added.

  Attributes:
    neighbours: how many.
    temperature: of the softmax over their scores.
    most: the greatest weight of the neighbours; it is 4 times the share of the
      gallery that is re-embedded while that is less.
  """

  neighbours: int = 20
  temperature: float = 0.07
  most: float = 0.5

  label = 'bridge'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Fits the rotation to all pairs."""
    _require_weight('most', self.most)
    return _Rotated(
      pairs.rotation,
      bridge_weight=min(self.most, 4 * pairs.share),
      temperature=self.temperature,
      neighbours=self.neighbours,
    )


def _require_weight(name: str, weight: float) -> None:
  if not 0 <= weight <= 1:
    raise InputError(
      f'refresh: {name} is {weight}; wanted: a number from 0 to 1.'
    )
