"""Linear least squares with a bias, from source unit vectors to target ones.

References:
  Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal
  problems", Technometrics 1970.
"""

import dataclasses

import numpy as np

from advbct_jax.adapters.pairs import Pairs
from advbct_jax.errors import InputError

# As parts of the mean variance of a source component.
_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclasses.dataclass
class Sums:
  """All that least squares needs to know of N pairs (x, y).

  Attributes:
    count: N, or the sum of their weights.
    x: [D] Σ x.
    y: [D_target] Σ y.
    xx: [D, D] Σ xᵀx.
    xy: [D, D_target] Σ xᵀy.
    yy: Σ ‖y‖².
  """

  count: float
  x: np.ndarray
  y: np.ndarray
  xx: np.ndarray
  xy: np.ndarray
  yy: float

  @classmethod
  def of(cls, x: np.ndarray, y: np.ndarray) -> 'Sums':
    """The sums over [n, D] and [n, D_target]."""
    # Products in float32 and their sums in float64: a chunk is short, and
    # converting it would double what is in memory.
    return cls(
      len(x),
      x.sum(axis=0, dtype=np.float64),
      y.sum(axis=0, dtype=np.float64),
      (x.T @ x).astype(np.float64),
      (x.T @ y).astype(np.float64),
      float(np.einsum('nd,nd->n', y, y).sum(dtype=np.float64)),
    )

  def scaled(self, weight: float) -> 'Sums':
    """The sums where each pair counts `weight` times."""
    return Sums(
      self.count * weight,
      self.x * weight,
      self.y * weight,
      self.xx * weight,
      self.xy * weight,
      self.yy * weight,
    )

  def __add__(self, other: 'Sums') -> 'Sums':
    return Sums(
      self.count + other.count,
      self.x + other.x,
      self.y + other.y,
      self.xx + other.xx,
      self.xy + other.xy,
      self.yy + other.yy,
    )


def fit(
  pairs: Pairs, seed: int, *, penalty: float | None
) -> dict[str, np.ndarray]:
  """Fits the map, from sums over all pairs.

  Args:
    pairs: N pairs of width D and D_target.
    seed: of the images that are held out to choose a penalty.
    penalty: on the squared weights, in parts of the mean variance of a source
      component. None takes the one of 1e-5, 1e-4, …, 1 that, fitted to nine
      tenths of the images, has the least squared error on the others; the map
      is then fitted to all.

  Returns:
    `weights` [D, D_target] and `bias` [D_target].

  Raises:
    InputError: if the penalty is not above zero.
  """
  kept, held_out = sum_pairs(pairs, pairs.held_out(seed))
  chosen = choose_penalty(kept, held_out) if penalty is None else penalty
  weights, bias = solve(kept + held_out, chosen)
  return {
    'weights': weights.astype(np.float32),
    'bias': bias.astype(np.float32),
  }


def apply(parameters: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
  """Maps vectors.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors.

  Returns:
    [N, D_target], not normalised.
  """
  return vectors @ parameters['weights'] + parameters['bias']


def sum_pairs(pairs: Pairs, held_out: np.ndarray) -> tuple[Sums, Sums]:
  """Sums up pairs, those that are not held out and those that are.

  Args:
    pairs: N pairs.
    held_out: [N] booleans.
  """
  nothing = Sums.of(
    np.zeros((0, pairs.width)), np.zeros((0, pairs.target_width))
  )
  sums = [nothing, nothing]
  for rows, source, target in pairs.chunks():
    for side in (0, 1):
      mine = held_out[rows] == side
      sums[side] += Sums.of(source[mine], target[mine])
  return sums[0], sums[1]


def choose_penalty(kept: Sums, held_out: Sums) -> float:
  """The penalty whose map of the one part errs least on the other."""
  return min(
    _PENALTIES,
    key=lambda penalty: squared_error(held_out, *solve(kept, penalty)),
  )


def solve(sums: Sums, penalty: float) -> tuple[np.ndarray, np.ndarray]:
  """Solves the penalised least squares; the bias goes unpenalised.

  Args:
    sums: over N pairs.
    penalty: in parts of the mean variance of a source component.

  Returns:
    Weights [D, D_target] and bias [D_target], float64.

  Raises:
    InputError: if the penalty is not above zero.
  """
  if not 0 < penalty < np.inf:
    raise InputError(
      f'ridge: a penalty of {penalty} was asked for; wanted: a number above '
      'zero, such as 0.01, or none to have it chosen.'
    )
  mean_x, mean_y = sums.x / sums.count, sums.y / sums.count
  variance = sums.xx - sums.count * np.outer(mean_x, mean_x)
  covariance = sums.xy - sums.count * np.outer(mean_x, mean_y)
  # Source vectors that are all the same have no variance; any weights will do.
  scale = max(np.trace(variance) / len(variance), np.finfo(float).tiny)
  weights = np.linalg.solve(
    variance + penalty * scale * np.eye(len(variance)), covariance
  )
  return weights, mean_y - mean_x @ weights


def squared_error(sums: Sums, weights: np.ndarray, bias: np.ndarray) -> float:
  """Σ ‖xW + b − y‖², from sums alone.

  Args:
    sums: over N pairs.
    weights: [D, D_target] W.
    bias: [D_target] b.
  """
  mapped = sums.x @ weights
  return float(
    sums.yy
    + np.sum(weights * (sums.xx @ weights))
    + sums.count * (bias @ bias)
    + 2 * mapped @ bias
    - 2 * np.sum(weights * sums.xy)
    - 2 * sums.y @ bias
  )
