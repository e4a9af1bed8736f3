"""The mean drift, taken off.

References:
  Goswami et al., "Query drift compensation: enabling compatibility in continual
  learning of retrieval embedding models", CoLLAs 2025: a new query less the
  mean difference of new and old queries. It has no options.
"""

import numpy as np

from advbct_jax.adapters.pairs import Pairs
from advbct_jax.errors import InputError


def fit(pairs: Pairs, seed: int) -> dict[str, np.ndarray]:
  """Finds the mean of x − y over all pairs.

  Args:
    pairs: N pairs of one width D.
    seed: nothing is random here.

  Returns:
    `drift` [D].

  Raises:
    InputError: if the two widths differ.
  """
  del seed
  check_widths(pairs.width, pairs.target_width)
  count, drift = 0, np.zeros(pairs.width)
  for rows, source, target in pairs.chunks():
    count += len(rows)
    drift += (source - target).sum(axis=0, dtype=np.float64)
  return {'drift': (drift / count).astype(np.float32)}


def apply(parameters: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
  """Moves vectors.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors.

  Returns:
    [N, D], not normalised.
  """
  return vectors - parameters['drift']


def check_widths(width: int, target_width: int) -> None:
  """Refuses vectors that cannot be subtracted.

  Args:
    width: of source vectors.
    target_width: of target vectors.

  Raises:
    InputError: if they differ.
  """
  if width != target_width:
    raise InputError(
      f'drift: vectors of width {width} have no difference from those of width '
      f'{target_width}. Take ridge, which maps from any width to any.'
    )
