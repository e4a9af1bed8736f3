"""Files of weights, read without running any of their code.

Safetensors hold nothing but arrays. PyTorch's own files are pickles, which can
run anything; they are read by PyTorch's restricted reader, which knows tensors
and plain containers alone, or not at all.
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import pickle
from typing import Any
import zipfile

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from advbct_jax.errors import InputError
from advbct_jax.weights.cards import (
  WeightsCard,
  digest_file,
  require_unchanged,
  write_card,
)
from advbct_jax.weights.hub import SAFETENSORS, card_path, find_suffix, locate

Tensors = Mapping[str, np.ndarray]

# Under what a checkpoint keeps a state dict beside its optimiser and epoch.
_STATE_DICTS = ('state_dict', 'model_state_dict', 'model')


def read_tensors(source: pathlib.Path | str) -> dict[str, np.ndarray]:
  """Reads the arrays of a safetensors file or of a PyTorch checkpoint.

  Args:
    source: a path, or `hf://OWNER/REPO/FILE`.

  Returns:
    Arrays by PyTorch name, in the dtype that they have there.

  Raises:
    InputError: if the file is missing, truncated, holds something else than
      tensors, or is another than the card beside it speaks of.
  """
  path = locate(source)
  suffix = find_suffix(path)
  if not path.stat().st_size:
    raise InputError(f'{path}: the file is empty. Fetch or save it again.')
  require_unchanged(path)
  if suffix in SAFETENSORS:
    return _read_safetensors(path)
  return _read_pickle(path)


def write_weights(
  path: pathlib.Path, tensors: Tensors, card: WeightsCard
) -> WeightsCard:
  """Writes a file of weights and its card beside it.

  The file appears whole or not at all. An older card goes before it and the
  new one comes after it, so that no card ever stands beside weights that it
  doesn't speak of.

  Args:
    path: of the file, whose ending says whether it holds safetensors or a state
      dict of PyTorch; what is there is replaced.
    tensors: contiguous arrays by PyTorch name.
    card: all but the name and the SHA-256 of the file.

  Returns:
    The whole card.

  Raises:
    InputError: if the ending is unknown, PyTorch is wanted and missing, or the
      file cannot be written.
  """
  suffix = find_suffix(path)
  unfinished = path.with_name(f'{path.name}.{os.getpid()}.unfinished')
  try:
    if suffix in SAFETENSORS:
      # Some readers insist on the mark that safetensors.torch makes.
      safetensors.numpy.save_file(dict(tensors), unfinished, {'format': 'pt'})
    else:
      torch = import_torch(path)
      torch.save(
        {name: torch.from_numpy(array) for name, array in tensors.items()},
        unfinished,
      )
    card = dataclasses.replace(
      card, file=path.name, sha256=digest_file(unfinished)
    )
    card_path(path).unlink(missing_ok=True)
    os.replace(unfinished, path)
    write_card(path, card)
  except (safetensors.SafetensorError, OSError) as error:
    raise InputError(
      f'{path}: cannot be written ({error}). Make room, or choose another '
      'place.'
    ) from error
  finally:
    unfinished.unlink(missing_ok=True)
  return card


def import_torch(path: pathlib.Path) -> Any:
  """Imports PyTorch.

  Args:
    path: what it is needed for.

  Raises:
    InputError: if it is not installed.
  """
  try:
    import torch
  except ImportError as error:
    raise InputError(
      f'{path}: PyTorch, which reads and writes such files, is not installed. '
      "Run: pip install 'advbct_jax[torch]'; or use safetensors, which need "
      'none.'
    ) from error
  return torch


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    return safetensors.numpy.load_file(path)
  except (safetensors.SafetensorError, KeyError, OSError) as error:
    raise InputError(
      f'{path}: not a whole safetensors file ({error}). Fetch or save it again.'
    ) from error


def _read_pickle(path: pathlib.Path) -> dict[str, np.ndarray]:
  torch = import_torch(path)
  try:
    # Mapped, what is not asked for (an optimiser, say) is never read.
    found = torch.load(
      path,
      map_location='cpu',
      weights_only=True,
      mmap=zipfile.is_zipfile(path),
    )
  except pickle.UnpicklingError as error:
    if 'GLOBAL' not in str(error):
      raise _damaged(path, error) from error
    raise InputError(
      f'{path}: it holds other objects than weights, and reading these could '
      f'run code, so nothing of it was read.\n  {_first_reason(error)}\n'
      'If you trust whoever made it, save its weights alone where it was made:'
      "\n  torch.save(torch.load('FILE', weights_only=False)['model'], "
      "'weights.pth')"
    ) from error
  except Exception as error:
    # What a damaged pickle raises is anyone's guess.
    raise _damaged(path, error) from error
  state_dict = _find_state_dict(found, torch.Tensor, path)
  return {
    name: _to_numpy(name, tensor, torch, path)
    for name, tensor in state_dict.items()
  }


def _damaged(path: pathlib.Path, error: Exception) -> InputError:
  return InputError(
    f'{path}: not a whole PyTorch checkpoint ({_first_reason(error)}). Fetch '
    'or save it again.'
  )


def _first_reason(error: Exception) -> str:
  """The sentence of PyTorch's long message that says what was found."""
  lines = str(error).splitlines() or [type(error).__name__]
  told = [line for line in lines if 'GLOBAL' in line]
  return (told or lines)[0].strip().partition('. ')[0]


def _find_state_dict(
  found: Any, tensor: type, path: pathlib.Path
) -> Mapping[str, Any]:
  """Takes a state dict out of what is wrapped round it."""
  if isinstance(found, Mapping):
    for name in _STATE_DICTS:
      if isinstance(found.get(name), Mapping):
        return _find_state_dict(found[name], tensor, path)
    if found and all(isinstance(value, tensor) for value in found.values()):
      return found
    kinds = ', '.join(
      f'{name} ({type(value).__name__})'
      for name, value in list(found.items())[:10]
      if not isinstance(value, tensor)
    )
  else:
    kinds = type(found).__name__
  raise InputError(
    f'{path}: no state dict in it, but {kinds or "nothing"}. Wanted: tensors '
    f'by name, or these under one of {", ".join(_STATE_DICTS)}.'
  )


def _to_numpy(
  name: str, tensor: Any, torch: Any, path: pathlib.Path
) -> np.ndarray:
  """Views a tensor as an array, without a copy."""
  try:
    if tensor.dtype == torch.bfloat16:
      # NumPy knows it by its bits alone.
      return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().numpy()
  except (RuntimeError, TypeError) as error:
    raise InputError(
      f'{path}: {name} is no plain tensor ({tensor.dtype}, {tensor.layout}: '
      f'{error}). Save the weights dense and in a floating-point dtype.'
    ) from error
