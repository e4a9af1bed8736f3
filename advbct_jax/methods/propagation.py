"""Propagation: vectors of one space, smoothed along the neighbours of another.

Of N images the new encoder says who is whose neighbour, A = softmax(f̂f̂ᵀ/τ)
without the diagonal; what the old encoder says of them, V, flows along it:

  V* = (1 − λ)(I − λA)⁻¹V,

the fixed point of V ← λAV + (1 − λ)V₀. The rows of A sum to 1, so each round
shrinks what is missing by λ.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse, special

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.methods.method import similarities

# What may be missing of the fixed point, in lengths of the vectors.
_TOLERANCE = 1e-6
# Rows whose similarities to all others are in memory at a time.
_BLOCK_ROWS = 256


def transition(
  embeddings: np.ndarray, temperature: float, neighbors: int = 0
) -> np.ndarray | sparse.csr_array:
  """A, how much each image takes over from each other.

  Args:
    embeddings: [N, D] f, not normalised.
    temperature: τ.
    neighbors: how many of the nearest each takes over from; 0 for all others.

  Returns:
    [N, N] rows that sum to 1, with a diagonal of 0; a single image has none to
    take over from, and a row of 0. Sparse where `neighbors` are given.
  """
  units = unit_rows(embeddings).astype(np.float32)
  count = len(units)
  if count == 1:
    return np.zeros((1, 1), np.float32)
  if not neighbors:
    logits = units @ units.T / np.float32(temperature)
    np.fill_diagonal(logits, -np.inf)
    return special.softmax(logits, axis=1)
  kept = min(neighbors, count - 1)
  everyone = jnp.asarray(units)
  found = [
    _nearest(everyone, start, min(start + _BLOCK_ROWS, count), kept)
    for start in range(0, count, _BLOCK_ROWS)
  ]
  cosines = np.concatenate([cosines for cosines, _ in found])
  columns = np.concatenate([columns for _, columns in found])
  weights = special.softmax(cosines / np.float32(temperature), axis=1)
  starts = kept * np.arange(count + 1)
  return sparse.csr_array(
    (weights.ravel(), columns.ravel(), starts), shape=(count, count)
  )


def _nearest(
  units: jax.Array, start: int, stop: int, kept: int
) -> tuple[np.ndarray, np.ndarray]:
  """Cosines and positions of the nearest others of some rows."""
  rows = np.arange(start, stop)
  cosines = similarities(units[start:stop], units)
  cosines = cosines.at[rows - start, rows].set(-jnp.inf)
  return jax.device_get(jax.lax.top_k(cosines, kept))


def propagate(
  weights: np.ndarray | sparse.csr_array, values: np.ndarray, share: float
) -> np.ndarray:
  """(1 − λ)(I − λA)⁻¹V, by its fixed point.

  Args:
    weights: [N, N] A, as `transition` makes it.
    values: [N, D] V.
    share: λ, from 0 to less than 1.

  Returns:
    [N, D].

  >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
  >>> propagate(swap, np.array([[1.0], [0.0]]), 0.5).round(4).tolist()
  [[0.6667], [0.3333]]
  """
  rounds = int(np.ceil(np.log(_TOLERANCE) / np.log(max(share, _TOLERANCE))))
  flowing = values
  for _ in range(rounds):
    flowing = share * (weights @ flowing) + (1 - share) * values
  return flowing
