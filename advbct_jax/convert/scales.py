"""What quantised vectors are multiplied by."""

import pathlib

import numpy as np

from advbct_jax.errors import InputError


def parse_scale(text: str | None) -> np.ndarray | None:
  """A scale that is said as a number; None where it is a name or nothing."""
  try:
    return None if text is None else np.array([[float(text)]], np.float32)
  except ValueError:
    return None


def shape_scale(
  scale: np.ndarray, shape: tuple[int, int], where: pathlib.Path | str
) -> np.ndarray:
  """Brings scales to the axes of the vectors that they belong to.

  Args:
    scale: a number, one for each vector ([N] or [N, 1]) or one for each
      component ([D] or [1, D]).
    shape: N and D.
    where: they were found, for messages.

  Returns:
    [1 or N, 1 or D] float32.

  Raises:
    InputError: if their shape is another one, or could be both, or if one of
      them is not a number above zero.
  """
  scale = np.asarray(scale, np.float32)
  count, dimension = shape
  shaped = scale
  if scale.size == 1:
    shaped = scale.reshape(1, 1)
  elif scale.ndim == 1 and count != dimension:
    shaped = scale[:, None] if len(scale) == count else scale[None]
  if shaped.shape not in ((1, 1), (count, 1), (1, dimension)):
    raise InputError(
      f'{where}: found scales of shape {scale.shape} for {count} vectors of '
      f'width {dimension}; wanted a number, [{count}, 1] for the vectors, or '
      f'[1, {dimension}] for their components.'
    )
  if not (np.isfinite(shaped) & (shaped > 0)).all():
    raise InputError(
      f'{where}: found a scale of {shaped.min()}; wanted numbers above zero.'
    )
  return shaped


def apply_scale(
  block: np.ndarray, scale: np.ndarray | None, start: int
) -> np.ndarray:
  """Multiplies some vectors by their scales.

  Args:
    block: [n, D] rows from `start` on.
    scale: from `shape_scale`; None leaves the block as it is.
    start: the first row.
  """
  if scale is None:
    return block
  mine = scale if len(scale) == 1 else scale[start : start + len(block)]
  return block.astype(np.float32) * mine
