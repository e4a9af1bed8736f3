"""Brings scores of the old part to the scale of the new part's.

Of known pairs both scores can be had. Mean and deviation of the one over a
sample of them are brought to those of the other, for each query on its own:
queries differ more in both than their results do. The deviation is matched, and
not the regression line taken: that would pull everything old to the middle,
where it isn't found.
"""

import dataclasses

import numpy as np

from advbct_jax.refresh.known_pairs import KnownPairs
from advbct_jax.refresh.policy import OldPart, Queries


@dataclasses.dataclass(frozen=True)
class Scale:
  """A sample of pairs as both parts see it.

  Attributes:
    old_rows: [S, W] as the old part is searched.
    new_rows: [S, D] new unit vectors.
    weights: [S], 1 in sum.
  """

  old_rows: np.ndarray
  new_rows: np.ndarray
  weights: np.ndarray

  def apply(
    self, scores: np.ndarray, queries: Queries, old_queries: np.ndarray
  ) -> np.ndarray:
    """Rescales.

    Args:
      scores: [Q, k] of the old part.
      queries: Q of them.
      old_queries: [Q, W] what the old part is searched with.

    Returns:
      [Q, k] float32.
    """
    here = self._moments(old_queries @ self.old_rows.T)
    there = self._moments(queries.new @ self.new_rows.T)
    rescaled = (scores - here[0]) / here[1] * there[1] + there[0]
    return rescaled.astype(np.float32)

  def _moments(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and deviation [Q, 1] of scores [Q, S]."""
    mean = scores @ self.weights[:, None]
    squares = np.square(scores - mean) @ self.weights[:, None]
    return mean, np.maximum(np.sqrt(squares), 1e-12)


def fit_scale(part: OldPart, pairs: KnownPairs) -> Scale | None:
  """Lays a sample of pairs out as a policy does, once for all queries.

  Args:
    part: how the old part is searched.
    pairs: what it was fitted to.

  Returns:
    None where the policy brings scores together otherwise.
  """
  if part.scale != 'known':
    return None
  old, new, weights = pairs.sample
  return Scale(part.rows(old), new, weights.astype(np.float32))
