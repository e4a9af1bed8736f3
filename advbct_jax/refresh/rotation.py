"""The rotation of new vectors onto old ones, from sums."""

import numpy as np

from advbct_jax.adapters.ridge import Sums
from advbct_jax.errors import InputError


def fit_rotation(sums: Sums) -> np.ndarray:
  """Orthogonal Procrustes: W with the greatest Σ ⟨nW, o⟩.

  Args:
    sums: over old unit vectors x and new ones y.

  Returns:
    [D, D_old] float32 with orthonormal rows or columns; where one space is
    wider, it is the other's that is padded with zeros.

  Raises:
    InputError: if there are no pairs.

  References:
    Schönemann, "A generalized solution of the orthogonal Procrustes problem",
    Psychometrika 1966.
  """
  if not sums.count:
    raise InputError(
      'refresh: no thing is known in both spaces, so that new queries cannot '
      'be turned into the old one. Embed some training or gallery images with '
      'the new encoder first.'
    )
  left, _, right = np.linalg.svd(sums.xy.T, full_matrices=False)
  return (left @ right).astype(np.float32)
