"""The ridge map that predicts new vectors from old ones, from sums.

Of one penalty it is the solution of linear equations. To compare many, all are
written in the principal directions of the old vectors, in which the penalty is
a number for each direction.
"""

import dataclasses

import numpy as np

from advbct_jax.adapters import ridge


@dataclasses.dataclass(frozen=True)
class Predictor:
  """Predicts (n − μ_n)/s_n as (o − μ_o)M.

  Attributes:
    old_mean: [D_old] μ_o of the pairs.
    new_mean: [D] μ_n.
    weights: [D_old, D] M, scaled by s_n so that predictions have a mean squared
      length of 1.
    old_scale: the root mean squared length of o − μ_o.
  """

  old_mean: np.ndarray
  new_mean: np.ndarray
  weights: np.ndarray
  old_scale: float


def fit_predictor(sums: ridge.Sums, penalty: float) -> Predictor:
  """Fits the map.

  Args:
    sums: over old unit vectors x and new ones y.
    penalty: in parts of the mean variance of an old component.

  Raises:
    InputError: if the penalty is not above zero.
  """
  weights, _ = ridge.solve(sums, penalty)
  old_mean, new_mean = sums.x / sums.count, sums.y / sums.count
  # Of unit vectors the mean squared length is 1.
  old_variance = max(1 - float(old_mean @ old_mean), 1e-12)
  # tr MᵀΣM, where (Σ + κI)M = C: the product of matrices isn't needed.
  covariance = sums.xy / sums.count - np.outer(old_mean, new_mean)
  kappa = penalty * old_variance / len(old_mean)
  new_variance = float(np.sum(weights * (covariance - kappa * weights)))
  return Predictor(
    old_mean.astype(np.float32),
    new_mean.astype(np.float32),
    (weights / np.sqrt(max(new_variance, 1e-12))).astype(np.float32),
    float(np.sqrt(old_variance)),
  )


@dataclasses.dataclass(frozen=True)
class PrincipalMaps:
  """The maps of all penalties: M = U·diag(1/(λ + κ))·B/s_n.

  Attributes:
    old_mean: [D_old] μ_o of the pairs.
    new_mean: [D] μ_n.
    directions: [D_old, D_old] U, of which the columns are the principal
      directions.
    variances: [D_old] λ along them.
    covariances: [D_old, D] B, of the components along them with new ones.
    old_scale: the root mean squared length of o − μ_o.
  """

  old_mean: np.ndarray
  new_mean: np.ndarray
  directions: np.ndarray
  variances: np.ndarray
  covariances: np.ndarray
  old_scale: float

  def gains(self, penalty: float) -> np.ndarray:
    """[D_old] the diagonal 1/(λ + κ)/s_n of a penalty.

    Args:
      penalty: above zero, in parts of the mean variance of an old component.
    """
    kappa = penalty * self.old_scale**2 / len(self.variances)
    gains = 1 / (self.variances + kappa)
    squares = np.einsum('od,od->o', self.covariances, self.covariances)
    new_variance = float(np.sum(self.variances * squares * np.square(gains)))
    return gains / max(new_variance, 1e-12) ** 0.5


def fit_principal_maps(sums: ridge.Sums) -> PrincipalMaps:
  """Fits the maps of all penalties at once.

  Args:
    sums: over old unit vectors x and new ones y.
  """
  old_mean, new_mean = sums.x / sums.count, sums.y / sums.count
  variance = sums.xx / sums.count - np.outer(old_mean, old_mean)
  covariance = sums.xy / sums.count - np.outer(old_mean, new_mean)
  variances, directions = np.linalg.eigh(variance)
  return PrincipalMaps(
    old_mean.astype(np.float32),
    new_mean.astype(np.float32),
    directions.astype(np.float32),
    variances.astype(np.float32),
    (directions.T @ covariance).astype(np.float32),
    float(np.sqrt(max(1 - float(old_mean @ old_mean), 1e-12))),
  )
