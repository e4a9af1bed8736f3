"""The rotation that brings new vectors nearest to old ones.

It turns the new space as a whole, so that mapped vectors are as like each other
as they were before: old and new, and all of a gallery while it is re-embedded,
live in one space.

References:
  Schönemann, "A generalized solution of the orthogonal Procrustes problem",
  Psychometrika 1966.
"""

import numpy as np

from advbct_jax.adapters.pairs import Pairs
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError


def procrustes_rotation(new: np.ndarray, old: np.ndarray) -> np.ndarray:
  """Finds the orthogonal map (a reflection may be in it) of new to old vectors.

  It is the R with RᵀR = I that has the least Σ‖f̂R − ô‖², where ô, narrower than
  f̂, is filled up with zeros. Then the first D_old components of f̂R are those
  to compare with ô.

  Args:
    new: [N, D] new embeddings, of any length.
    old: [N, D_old] old embeddings of the same images, D_old ≤ D.

  Returns:
    [D, D] float64; a row vector is multiplied from the left, f̂R.

  Raises:
    InputError: if the old embeddings are wider than the new ones.

  >>> turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
  >>> new = np.array([[1.0, 0.0], [0.6, 0.8]])
  >>> procrustes_rotation(new, new @ turn).round(6) + 0.0
  array([[ 0.,  1.],
         [-1.,  0.]])
  """
  return _nearest_rotation(unit_rows(new).T @ unit_rows(old))


def fit(pairs: Pairs, seed: int) -> dict[str, np.ndarray]:
  """Finds the rotation from sums over all pairs.

  Args:
    pairs: N pairs of width D and D_old ≤ D.
    seed: nothing is random here.

  Returns:
    `rotation` [D, D].

  Raises:
    InputError: if the old embeddings are wider than the new ones.
  """
  del seed
  width, old_width = pairs.new.card.dimension, pairs.old.card.dimension
  cross = np.zeros((width, old_width))
  for _, new, old in pairs.chunks():
    cross += new.T @ old
  return {'rotation': _nearest_rotation(cross).astype(np.float32)}


def apply(parameters: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
  """Turns vectors.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors.

  Returns:
    [N, D]; the first D_old components compare with old vectors.
  """
  return vectors @ parameters['rotation']


def require_widths(width: int, old_width: int) -> None:
  """Refuses to turn narrow vectors into a wider space.

  Args:
    width: D, of the new vectors.
    old_width: D_old.

  Raises:
    InputError: if the old embeddings are wider than the new ones.
  """
  if old_width > width:
    raise InputError(
      f'procrustes: new vectors of width {width} cannot be turned into a space '
      f'of {old_width} dimensions. Take ridge or residual_mlp, which map from '
      'any width to any.'
    )


def _nearest_rotation(cross: np.ndarray) -> np.ndarray:
  """The orthogonal factor of Σ f̂ᵀô, [D, D_old], filled up to [D, D]."""
  width, old_width = cross.shape
  require_widths(width, old_width)
  square = np.zeros((width, width))
  square[:, :old_width] = cross
  left, _, right = np.linalg.svd(square)
  return left @ right
