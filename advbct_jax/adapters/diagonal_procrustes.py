"""A rotation, and a scale for each component after it.

References:
  Vejendla, "Drift-Adapter: a practical approach to near zero-downtime embedding
  model upgrades in vector databases", EMNLP 2025, adds a diagonal scaling
  matrix to its maps. Scales that are trained there are solved for here, since
  least squares has them in closed form. It has no options.
"""

import numpy as np

from advbct_jax.adapters.pairs import Pairs
from advbct_jax.adapters.procrustes import nearest_rotation
from advbct_jax.adapters.ridge import Sums, sum_pairs


def fit(pairs: Pairs, seed: int) -> dict[str, np.ndarray]:
  """Finds the rotation R, then the scales s of least Σ‖(xR)·s − y‖².

  s_j = Σ (xR)_j y_j / Σ (xR)_j².

  Args:
    pairs: N pairs of width D and D_target.
    seed: nothing is random here.

  Returns:
    `weights` [D, D_target], R's first components times their scales.
  """
  del seed
  kept, _ = sum_pairs(pairs, np.zeros(pairs.new.card.count, bool))
  return {'weights': solve(kept).astype(np.float32)}


def apply(parameters: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
  """Turns and stretches vectors.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors.

  Returns:
    [N, D_target], not normalised.
  """
  return vectors @ parameters['weights']


def solve(sums: Sums) -> np.ndarray:
  """The weights [D, D_target], from sums over N pairs."""
  rotation = nearest_rotation(sums.xy)[:, : sums.xy.shape[1]]
  agreed = np.sum(rotation * sums.xy, axis=0)
  squared = np.sum(rotation * (sums.xx @ rotation), axis=0)
  # A component that no vector has may have any scale.
  return rotation * (agreed / np.maximum(squared, np.finfo(float).tiny))
