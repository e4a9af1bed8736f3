"""NDPP: each prototype is pushed away from its neighbours.

  p̃_k = norm(p_k + η·Σ_j w_kj (p_k − r_j)),

with r_j the nearest few old and new prototypes of other classes than k, and the
w_kj a softmax of their cosines to p_k over τ, so that the nearest push hardest.

After the neighbor-driven prototype perturbation of Zhou et al., arXiv
2503.14824 (see `perturbed_prototypes`). **The formula is ours**, made from the
idea without the paper's equations; its results need not be the paper's. Nor are
its options published: they are guesses that nothing has tuned. The code that
the authors published with PrunNet has a form that differs: the 100 nearest old
prototypes push with a strength of 0.4 and the 100 nearest new ones with one of
0.01, that of the same class included, each group weighted in proportion to its
cosines.
"""

from typing import ClassVar

import numpy as np

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.methods.perturbed_prototypes import PerturbedPrototypes

# Classes whose cosines to all prototypes are in memory at a time.
_BLOCK_ROWS = 256


class NDPP(PerturbedPrototypes):
  """Perturbed prototypes that keep away from their neighbours.

  Attributes: those of `PerturbedPrototypes`, and
    push: η.
    neighbors: how many of the nearest prototypes push.
    neighbor_temperature: τ.
  """

  label: ClassVar[str] = 'NDPP'
  color: ClassVar[str] = '#AA4499'

  push: float = 0.3
  neighbors: int = 10
  neighbor_temperature: float = 0.1

  def __post_init__(self) -> None:
    """Refuses options that are none."""
    super().__post_init__()
    if self.neighbors < 1:
      raise InputError(
        f'config.ndpp.neighbors is {self.neighbors}; wanted: at least 1.'
      )

  def move_apart(
    self, old: np.ndarray, others: np.ndarray, own: np.ndarray
  ) -> np.ndarray:
    """Pushes them, block by block."""
    around = np.concatenate([old, others])
    known = np.arange(len(old))
    numbers = np.concatenate([known, own])
    moved = [
      push_away(
        old[start : start + _BLOCK_ROWS],
        around,
        known[start : start + _BLOCK_ROWS, None] == numbers,
        self.push,
        self.neighbors,
        self.neighbor_temperature,
      )
      for start in range(0, len(old), _BLOCK_ROWS)
    ]
    return np.concatenate(moved)


def push_away(
  prototypes: np.ndarray,
  around: np.ndarray,
  same: np.ndarray,
  push: float,
  neighbors: int,
  temperature: float,
) -> np.ndarray:
  """Pushes prototypes away from the nearest of other classes.

  Args:
    prototypes: [B, D] p, of length 1; one of 0 stays there.
    around: [M, D] what may push, of length 1; 0 for what is none.
    same: [B, M] whether both are of one class.
    push: η.
    neighbors: how many of the nearest push, fewer where there are not so many.
    temperature: τ.

  Returns:
    [B, D] p̃, of length 1.

  >>> moved = push_away(
  ...   np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]]), np.array([[False]]),
  ...   push=0.5, neighbors=1, temperature=0.1,
  ... )
  >>> moved.round(4).tolist()
  [[0.9487, -0.3162]]
  """
  paired = prototypes.any(axis=1, keepdims=True) & around.any(axis=1) & ~same
  cosines = np.where(paired, prototypes @ around.T, -np.inf)
  kept = min(neighbors, len(around))
  nearest = np.argpartition(-cosines, kept - 1, axis=1)[:, :kept]
  logits = np.take_along_axis(cosines, nearest, axis=1) / temperature
  # Without any neighbour all weights are 0, and it stays.
  highest = np.maximum(logits.max(axis=1, keepdims=True), -1 / temperature)
  powers = np.exp(logits - highest)
  total = powers.sum(axis=1, keepdims=True)
  weights = powers / np.maximum(total, 1e-12)
  away = weights.sum(axis=1, keepdims=True) * prototypes - np.einsum(
    'bk,bkd->bd', weights, around[nearest]
  )
  return unit_rows(prototypes + push * away)
