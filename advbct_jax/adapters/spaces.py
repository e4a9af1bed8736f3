"""What the vectors of one encoder look like as a whole.

A Gaussian of 64 principal directions and as much variance in all others as they
have on average: probabilistic PCA. It is small beside any map, and tells two
encoders' vectors, or two domains of one encoder, apart.

References:
  Tipping and Bishop, "Probabilistic principal component analysis", JRSS B 1999.
"""

import dataclasses

import numpy as np

_MAX_DIRECTIONS = 64
# Of the vectors, to learn what is usual of ones that the directions don't know.
_HELD_OUT = 5


@dataclasses.dataclass(frozen=True)
class Space:
  """A Gaussian over unit vectors, and how far from it they usually are.

  Attributes:
    mean: [D].
    basis: [K, D] orthonormal principal directions, K ≤ 64, maybe 0.
    variances: [K] along them.
    noise: [] the variance along each other direction.
    usual: [3] mean and standard deviation of `distances` over vectors that it
      was not fitted to, and their number.
  """

  mean: np.ndarray
  basis: np.ndarray
  variances: np.ndarray
  noise: np.ndarray
  usual: np.ndarray

  def distances(self, vectors: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distances by component.

    Args:
      vectors: [N, D] unit vectors.

    Returns:
      [N], about 1 for vectors that the space was fitted to.
    """
    centred = vectors - self.mean
    along = np.square(centred @ self.basis.T)
    # What rounding leaves of a difference may be below zero.
    beside = np.square(centred).sum(axis=1) - along.sum(axis=1)
    total = (along / self.variances).sum(axis=1)
    total += np.maximum(beside, 0) / self.noise
    return total / vectors.shape[1]

  def strangeness(self, vectors: np.ndarray) -> float:
    """How much farther away vectors are than usual, in standard deviations.

    What chance would give so many vectors is taken off: three standard errors.

    Args:
      vectors: [N, D] unit vectors, N ≥ 1.
    """
    mean, deviation, count = self.usual
    chance = 3 * np.sqrt(1 / len(vectors) + 1 / count)
    return float((self.distances(vectors).mean() - mean) / deviation - chance)

  def draw(self, count: int) -> np.ndarray:
    """Draws [count, D] vectors like those it was fitted to, each time the same.

    Their lengths are near 1, not 1.
    """
    random = np.random.default_rng(0)
    drawn = random.normal(size=(count, len(self.mean))) * np.sqrt(self.noise)
    beyond_noise = np.sqrt(self.variances - self.noise)
    along = random.normal(size=(count, len(self.variances))) * beyond_noise
    return (self.mean + drawn + along @ self.basis).astype(np.float32)


def describe_space(vectors: np.ndarray) -> Space:
  """Fits a space.

  Args:
    vectors: [N, D] unit vectors, N ≥ 10.
  """
  # Every fifth, since neighbours in a store are often of one class.
  held_out = np.arange(len(vectors)) % _HELD_OUT == 0
  kept, width = vectors[~held_out], vectors.shape[1]
  mean = kept.mean(axis=0, dtype=np.float64)
  centred = kept - mean.astype(np.float32)
  variances, basis = np.linalg.eigh(
    (centred.T @ centred) / np.float32(len(kept))
  )
  # From few vectors, directions would be taken for principal that chance made.
  directions = min(_MAX_DIRECTIONS, len(kept) // 8, width - 1)
  order = np.argsort(variances)[::-1]
  others = variances[order[directions:]]
  total = max(float(np.maximum(variances, 0).sum()), 1e-12)
  # Vectors may fill fewer dimensions than they have.
  least = 1e-6 * total / width
  noise = np.array(max(float(others.mean()), least), np.float32)
  space = Space(
    mean.astype(np.float32),
    np.ascontiguousarray(basis.T[order[:directions]]),
    np.maximum(variances[order[:directions]], noise),
    noise,
    np.array([0, 1, 1], np.float32),
  )
  distances = space.distances(vectors[held_out])
  usual = (distances.mean(), max(distances.std(), 1e-6), len(distances))
  return dataclasses.replace(space, usual=np.array(usual, np.float32))
