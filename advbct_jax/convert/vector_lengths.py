"""What the lengths of vectors say of how they may be compared.

Everything here compares by cosine. Where a service compares by inner product or
by distance, that ranks alike only for vectors of one length.
"""

import dataclasses
import pathlib

import numpy as np

from advbct_jax.errors import InputError

COSINE = 'cosine'
METRICS = (COSINE, 'inner_product', 'l2')

# How much longer than the shortest vector the longest may be: float16 and int8
# round unit vectors, and product quantisers keep them roughly.
_TOLERANCE = 1.02
_ROUGH_TOLERANCE = 2.0


@dataclasses.dataclass
class Lengths:
  """The lengths of the vectors that were seen so far.

  Attributes:
    zeros: how many are all zero, which have no direction.
    shortest: of the others.
    longest: of the others.
  """

  zeros: int = 0
  shortest: float = np.inf
  longest: float = 0.0

  @property
  def differ(self) -> bool:
    """Whether the vectors are of more lengths than rounding makes."""
    return self.longest > _TOLERANCE * self.shortest

  def add(self, vectors: np.ndarray) -> None:
    """Takes note of some, [n, D] float32."""
    # Scaled first: squares of float32 leave its range from 1e19 on.
    largest = np.abs(vectors).max(axis=1, initial=0)
    mine = largest > 0
    self.zeros += len(vectors) - int(mine.sum())
    if not mine.any():
      return
    scaled = vectors[mine] / largest[mine, None]
    lengths = np.linalg.norm(scaled, axis=1) * largest[mine].astype(float)
    self.shortest = min(self.shortest, float(lengths.min()))
    self.longest = max(self.longest, float(lengths.max()))

  def require_cosine(
    self, metric: str, exact: bool, path: pathlib.Path
  ) -> None:
    """Refuses vectors that another metric than cosine ranks otherwise.

    Args:
      metric: that the vectors are compared by where they come from.
      exact: whether these are the vectors, rather than approximations.
      path: where they come from.

    Raises:
      InputError: if they are of different lengths, or the metric is none that
        agrees with cosine on vectors of one length.
    """
    if metric == COSINE:
      return
    known = metric in METRICS
    tolerance = _TOLERANCE if exact else _ROUGH_TOLERANCE
    if known and self.longest <= tolerance * self.shortest:
      return
    lengths = f'lengths from {self.shortest:.4g} to {self.longest:.4g}'
    raise InputError(
      f'{path}: compared by {metric} where it comes from, and here by '
      f'cosine, which ranks vectors of {lengths} otherwise. Say '
      '--metric=cosine to have them compared by cosine nonetheless, or '
      'bring them to length 1, there too.'
    )
