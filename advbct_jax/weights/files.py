"""Files of weights, read without running any of their code."""

import pathlib

import numpy as np
import safetensors
import safetensors.numpy

from advbct_jax.errors import InputError


def read_tensors(path: pathlib.Path | str) -> dict[str, np.ndarray]:
  """Reads a safetensors file.

  Raises:
    InputError: if it is missing, is no safetensors file, or is truncated.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise InputError(f'{path}: no such weights file.')
  try:
    return safetensors.numpy.load_file(path)
  except (safetensors.SafetensorError, OSError) as error:
    raise InputError(
      f'{path}: not a whole safetensors file ({error}). Weights are read from '
      'safetensors only, because a pickle (.pth, .bin) can run code; convert '
      'it first.'
    ) from error
