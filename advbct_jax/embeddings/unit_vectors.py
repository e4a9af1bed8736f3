"""Vectors of length 1, of which inner products are cosines."""

import numpy as np


def unit_rows(x: np.ndarray) -> np.ndarray:
  """Divides each row of [N, D] by max(‖row‖, 1e-12)."""
  norms = np.linalg.norm(x, axis=1, keepdims=True)
  return x / np.maximum(norms, 1e-12)
