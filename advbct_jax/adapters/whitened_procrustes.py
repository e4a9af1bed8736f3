"""Both spaces whitened, one turned to the other, and coloured again.

Encoders spend most of their variance on few directions, which then decide the
rotation; whitened, all count alike.

References:
  Artetxe et al., "Generalizing and improving bilingual word embedding mappings
  with a multi-step framework of linear transformations", AAAI 2018: steps 1, 2
  and 4, without their re-weighting. Shrinkage as of Ledoit and Wolf, "A
  well-conditioned estimator for large-dimensional covariance matrices", 2004.
"""

import numpy as np

from advbct_jax.adapters import ridge
from advbct_jax.adapters.pairs import Pairs
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError

# 1 leaves the spaces as they are, but for their means.
_SHRINKAGES = (0.03, 0.1, 0.3, 1.0)
_MAX_MEASURED = 4096


def fit(
  pairs: Pairs, seed: int, *, shrinkage: float | None
) -> dict[str, np.ndarray]:
  """Fits y ≈ (x − m_x) S_x^(−½) R S_y^(½) + m_y, R orthogonal.

  S is a covariance shrunk towards its mean variance v, (1 − s)·Σ + s·v·I.

  Args:
    pairs: N pairs of width D and D_target.
    seed: of the images that are held out to choose a shrinkage.
    shrinkage: s, above 0 and at most 1. None takes the one of 0.03, 0.1, 0.3
      and 1 whose map of nine tenths of the images has the highest mean cosine
      on the others; the map is then fitted to all.

  Returns:
    `weights` [D, D_target] and `bias` [D_target].

  Raises:
    InputError: if the shrinkage is out of range.
  """
  if shrinkage is not None and not 0 < shrinkage <= 1:
    raise InputError(
      f'whitened_procrustes: a shrinkage of {shrinkage} was asked for; wanted: '
      'a number above 0 and at most 1, or none to have it chosen.'
    )
  held_out = pairs.held_out(seed)
  kept, others = ridge.sum_pairs(pairs, held_out)
  kept_yy, others_yy = _sum_target_squares(pairs, held_out)
  if shrinkage is None:
    rows = np.flatnonzero(held_out)[:_MAX_MEASURED]
    source, target = pairs.read(rows)

    def agreement(candidate: float) -> float:
      weights, bias = solve(kept, kept_yy, candidate)
      return float(np.sum(unit_rows(source @ weights + bias) * target))

    shrinkage = max(_SHRINKAGES, key=agreement)
  weights, bias = solve(kept + others, kept_yy + others_yy, shrinkage)
  return {
    'weights': weights.astype(np.float32),
    'bias': bias.astype(np.float32),
  }


def solve(
  sums: ridge.Sums, yy: np.ndarray, shrinkage: float
) -> tuple[np.ndarray, np.ndarray]:
  """The weights [D, D_target] and the bias [D_target], float64.

  Args:
    sums: over N pairs.
    yy: [D_target, D_target] Σ yᵀy.
    shrinkage: of both covariances.
  """
  mean_x, mean_y = sums.x / sums.count, sums.y / sums.count
  whiten, _ = _roots(sums.xx / sums.count - np.outer(mean_x, mean_x), shrinkage)
  whiten_y, colour = _roots(
    yy / sums.count - np.outer(mean_y, mean_y), shrinkage
  )
  cross = sums.xy / sums.count - np.outer(mean_x, mean_y)
  left, _, right = np.linalg.svd(whiten @ cross @ whiten_y, full_matrices=False)
  weights = whiten @ left @ right @ colour
  return weights, mean_y - mean_x @ weights


def _sum_target_squares(
  pairs: Pairs, held_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Σ yᵀy over the pairs that are not held out, and over those that are."""
  sums = np.zeros((2, pairs.target_width, pairs.target_width))
  for rows, _, target in pairs.chunks():
    for side in (0, 1):
      mine = target[held_out[rows] == side]
      sums[side] += mine.T @ mine
  return sums[0], sums[1]


def _roots(
  covariance: np.ndarray, shrinkage: float
) -> tuple[np.ndarray, np.ndarray]:
  """The inverse square root of a shrunk covariance, and its square root."""
  values, vectors = np.linalg.eigh(covariance)
  mean = max(float(values.mean()), np.finfo(float).tiny)
  shrunk = (1 - shrinkage) * np.maximum(values, 0) + shrinkage * mean
  return (vectors / np.sqrt(shrunk)) @ vectors.T, (
    vectors * np.sqrt(shrunk)
  ) @ vectors.T
