"""An affine map of low rank, y ≈ xVUᵀ + t.

References:
  Vejendla, "Drift-Adapter: a practical approach to near zero-downtime embedding
  model upgrades in vector databases", EMNLP 2025, trains U, V and t by
  stochastic gradients. The least squares that they descend to are solved for
  here: Izenman, "Reduced-rank regression for the multivariate linear model",
  Journal of Multivariate Analysis 1975, with ridge's penalty.
"""

import numpy as np

from advbct_jax.adapters import ridge
from advbct_jax.adapters.pairs import Pairs
from advbct_jax.errors import InputError


def fit(
  pairs: Pairs, seed: int, *, rank: int, penalty: float | None
) -> dict[str, np.ndarray]:
  """Solves for the map of least squared error among those of a rank.

  Args:
    pairs: N pairs of width D and D_target.
    seed: of the images that are held out to choose a penalty.
    rank: r of the map; one above the widths is taken for the smaller of them.
    penalty: see `ridge.fit`; chosen for the map of full rank.

  Returns:
    `down` [D, r], `up` [r, D_target] and `bias` [D_target].

  Raises:
    InputError: if the rank is below 1 or the penalty not above zero.
  """
  if rank < 1:
    raise InputError(
      f'low_rank_affine: a rank of {rank} was asked for; wanted: 1 or more, '
      'such as 64.'
    )
  kept, held_out = ridge.sum_pairs(pairs, pairs.held_out(seed))
  if penalty is None:
    penalty = ridge.choose_penalty(kept, held_out)
  down, up, bias = solve(kept + held_out, rank, penalty)
  return {
    name: array.astype(np.float32)
    for name, array in (('down', down), ('up', up), ('bias', bias))
  }


def apply(parameters: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
  """Maps vectors.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors.

  Returns:
    [N, D_target], not normalised.
  """
  # Through the narrow middle: r·(D + D_target) products a vector.
  return vectors @ parameters['down'] @ parameters['up'] + parameters['bias']


def solve(
  sums: ridge.Sums, rank: int, penalty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The two factors and the bias, float64.

  Args:
    sums: over N pairs.
    rank: r.
    penalty: in parts of the mean variance of a source component.
  """
  weights, _ = ridge.solve(sums, penalty)
  mean_x, mean_y = sums.x / sums.count, sums.y / sums.count
  # At its optimum, ridge's loss falls by ‖WU‖² in the metric of the penalised
  # variance, which is what the covariance says: WᵀX'y.
  covariance = sums.xy - sums.count * np.outer(mean_x, mean_y)
  explained = weights.T @ covariance
  _, directions = np.linalg.eigh((explained + explained.T) / 2)
  kept = directions[:, ::-1][:, : min(rank, len(weights))]
  down, up = weights @ kept, kept.T
  return down, up, mean_y - mean_x @ down @ up
