"""A policy that is an adapter: fitted by itself, beforehand, and kept."""

import dataclasses

import numpy as np

from advbct_jax.adapters.adapter import Adapter
from advbct_jax.adapters.pairs import FORWARD
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.refresh.known_pairs import KnownPairs
from advbct_jax.refresh.policy import Neighbours, OldPart, Policy, Queries


@dataclasses.dataclass(frozen=True)
class _Mapped(OldPart):
  """Mapped new queries on old vectors, or new queries on mapped old ones."""

  adapter: Adapter

  def rows(self, old: np.ndarray) -> np.ndarray:
    return self._map(old) if self._forward else old

  def queries(
    self, queries: Queries, neighbours: Neighbours | None
  ) -> np.ndarray:
    return queries.new if self._forward else self._map(queries.new)

  @property
  def _forward(self) -> bool:
    return self.adapter.card.direction == FORWARD

  def _map(self, vectors: np.ndarray) -> np.ndarray:
    mapped = self.adapter.apply(vectors)
    # A rotation of wider vectors keeps its other components at the end.
    return unit_rows(mapped[:, : self.adapter.card.target['dimension']])


# An adapter holds arrays, by which no policy could be looked up.
@dataclasses.dataclass(frozen=True, eq=False)
class Adapted(Policy):
  """What an adapter maps, on the old part; only the scale follows the pairs.

  Attributes:
    adapter: between the two encoders, in either direction.
  """

  adapter: Adapter

  label = 'adapter'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Nothing but the scale follows the pairs."""
    return _Mapped(self.adapter)
