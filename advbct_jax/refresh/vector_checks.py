"""Vectors that can tell nothing are refused before anything is fitted."""

import numpy as np

from advbct_jax.errors import InputError

_LOOKED_AT = 4096


def require_different(rows: np.ndarray, what: str) -> None:
  """Refuses vectors of which most are the same.

  Args:
    rows: [N, D]; some thousand of them are looked at.
    what: whose they are, for the message.

  Raises:
    InputError: if fewer than half of them differ.
  """
  sample = rows[:: max(len(rows) // _LOOKED_AT, 1)]
  different = len(np.unique(sample, axis=0))
  if different < len(sample) / 2:
    raise InputError(
      f'refresh: only {different} of {len(sample)} {what} vectors differ. '
      'Check that the encoder has its weights and sees different things, or '
      'leave duplicates out.'
    )
