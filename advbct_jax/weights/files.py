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
import warnings
import zipfile

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from advbct_jax.checksums import digest_file
from advbct_jax.errors import InputError, brief_list, brief_reason
from advbct_jax.header_sizes import TO_ALLOW_MORE, largest_header
from advbct_jax.weights.cards import (
  WeightsCard,
  require_ours,
  require_unchanged,
  write_card,
)
from advbct_jax.weights.hub import SAFETENSORS, card_path, find_suffix, locate
from advbct_jax.weights.pickled_tuples import require_small_tuples

Tensors = Mapping[str, np.ndarray]

# In bytes; no checkpoint's own pickle, without its tensors, is larger.
_LARGEST_UNPACKED = 2**28
# A file that is no archive has so many before the bytes of its tensors: a magic
# number, a version, what made it, what was saved, and the order of the bytes.
_OLD_PICKLES = 5
# Names of tensors, and of what is in the way to them.
_MOST_NAMES = 2**18
_DEEPEST = 32

_IF_TRUSTED = (
  'If you trust whoever made it, save its weights alone where it was made:\n'
  "  found = torch.load('FILE', weights_only=False)\n"
  "  torch.save(found['model'], 'weights.pth')\n"
  "In the place of found['model'] goes found['state_dict'], or whatever name "
  'they have there, or found.state_dict() if found is a module.'
)


def read_tensors(source: pathlib.Path | str) -> dict[str, np.ndarray]:
  """Reads the arrays of a safetensors file or of a PyTorch checkpoint.

  Args:
    source: a path, `hf://OWNER/REPO/FILE` or `package://NAME`.

  Returns:
    Arrays by PyTorch name, in the dtype that they have there. In front of the
    names of a nested state dict stand its own and a slash: `model/fc.bias`.

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
      dict of PyTorch; one that was written here is replaced.
    tensors: contiguous arrays by PyTorch name.
    card: all but the name and the SHA-256 of the file.

  Returns:
    The whole card.

  Raises:
    InputError: if the ending is unknown, PyTorch is wanted and missing, the
      file cannot be written, or one is there that was not written here.
  """
  suffix = find_suffix(path)
  require_ours(path)
  unfinished = path.with_name(f'{path.name}.{os.getpid()}.unfinished')
  try:
    unfinished.touch()
    mode = unfinished.stat().st_mode
    if suffix in SAFETENSORS:
      # Some readers insist on the mark that safetensors.torch makes.
      safetensors.numpy.save_file(dict(tensors), unfinished, {'format': 'pt'})
    else:
      torch = import_torch(path)
      torch.save(
        {name: torch.from_numpy(array) for name, array in tensors.items()},
        unfinished,
      )
    unfinished.chmod(mode)  # safetensors make a file for its owner alone
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
  except (safetensors.SafetensorError, OSError) as error:
    raise InputError(
      f'{path}: not a whole safetensors file ({brief_reason(error)}). Fetch '
      'or save it again.'
    ) from error
  except (AttributeError, KeyError, TypeError) as error:
    # In one of these ways NumPy lacks the dtype, as float8.
    raise InputError(
      f'{path}: a dtype that is not supported ({error}); wanted: float16, '
      'bfloat16, float32 or float64, and integers for counters. Save the '
      'weights in one of these.'
    ) from error


def _read_pickle(path: pathlib.Path) -> dict[str, np.ndarray]:
  torch = import_torch(path)
  try:
    zipped = zipfile.is_zipfile(path)
    if zipped:
      _require_plain_archive(path)
    _require_small_tuples(path, zipped)
    with warnings.catch_warnings():
      # They ask to report protocols of pickles that it reads all the same.
      warnings.simplefilter('ignore', UserWarning)
      # Mapped, what is not asked for (an optimiser, say) is never read.
      found = torch.load(
        path, map_location='cpu', weights_only=True, mmap=zipped
      )
  except InputError:
    raise
  except pickle.UnpicklingError as error:
    raise _refused(path, _first_reason(error)) from error
  except Exception as error:
    # What a damaged pickle raises is anyone's guess.
    raise _damaged(path, _first_reason(error)) from error
  flat = _flatten(path, found, torch.Tensor)
  if not flat:
    raise InputError(
      f'{path}: no tensors by name in it, but {_describe(found)}. Wanted: a '
      'state dict, or a checkpoint with one in it.'
    )
  return {
    name: _to_numpy(name, tensor, torch, path) for name, tensor in flat.items()
  }


def _describe(found: Any) -> str:
  """Says what a checkpoint without tensors holds."""
  if not isinstance(found, Mapping):
    return type(found).__name__
  kinds = [f'{name} ({type(value).__name__})' for name, value in found.items()]
  return brief_list(kinds) or 'nothing'


def _require_plain_archive(path: pathlib.Path) -> None:
  """Refuses what unpacks to far more than it has, and TorchScript.

  The latter is known by the member that PyTorch goes by.
  """
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    unpacked = sum(member.file_size for member in archive.infolist())
  largest = largest_header(_LARGEST_UNPACKED)
  if unpacked > max(largest, 2 * path.stat().st_size):
    raise InputError(
      f'{path}: it has {path.stat().st_size} bytes and would unpack to '
      f'{unpacked}; PyTorch packs nothing. Fetch or save it again; '
      f'{TO_ALLOW_MORE}.'
    )
  if any(name.endswith('/constants.pkl') for name in names):
    raise InputError(
      f'{path}: a TorchScript archive, which is a program with weights in it; '
      'wanted: the weights alone. If you trust whoever made it, save them:\n'
      "  torch.save(torch.jit.load('FILE').state_dict(), 'weights.pth')"
    )


def _require_small_tuples(path: pathlib.Path, zipped: bool) -> None:
  """Refuses what would keep PyTorch's reader busy for ever."""
  try:
    if zipped:
      with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
          if name.endswith('/data.pkl'):
            with archive.open(name) as file:
              require_small_tuples(file)
    else:
      with path.open('rb') as file:
        for _ in range(_OLD_PICKLES):
          if file.peek(1):
            require_small_tuples(file)
  except (ValueError, IndexError) as error:
    raise pickle.UnpicklingError(str(error)) from error


def _refused(path: pathlib.Path, reason: str) -> InputError:
  """What to say of a pickle that the restricted reader stopped at."""
  if 'GLOBAL' in reason:
    return InputError(
      f'{path}: it holds other objects than weights, and reading these could '
      f'run code, so nothing of it was read.\n  {reason}\n{_IF_TRUSTED}'
    )
  if reason == f'Unsupported operand {pickle.FRAME[0]}':
    return InputError(
      f'{path}: a pickle of protocol 4 or newer, which PyTorch reads only in a '
      f'way that could run code, so nothing of it was read.\n{_IF_TRUSTED}'
    )
  with path.open('rb') as file:
    return _damaged(path, f'{reason}; it begins with {file.read(16)!r}')


def _damaged(path: pathlib.Path, reason: str) -> InputError:
  return InputError(
    f'{path}: not a whole PyTorch checkpoint ({reason}). Fetch or save it '
    'again.'
  )


def _first_reason(error: Exception) -> str:
  """The sentence of PyTorch's long message that says what was found."""
  told = str(error).rpartition('WeightsUnpickler error:')[2]
  lines = [line.strip() for line in told.splitlines() if line.strip()]
  named = [line for line in lines if 'GLOBAL' in line]
  return [*named, *lines, type(error).__name__][0].partition('. ')[0]


def _flatten(path: pathlib.Path, found: Any, tensor: type) -> dict[str, Any]:
  """The tensors of dicts in dicts, by the names on the way to them.

  An optimiser's are kept by number, not by name, and so are passed over.
  """
  flat: dict[str, Any] = {}
  seen = 0
  unseen = [('', 0, found)]
  while unseen:
    before, depth, inside = unseen.pop()
    if not isinstance(inside, Mapping):
      continue
    seen += len(inside)
    # One dict may be in it in many places, even in itself.
    if seen > _MOST_NAMES or depth > _DEEPEST:
      raise InputError(
        f'{path}: dicts in dicts with more than {_MOST_NAMES} names, or '
        f'deeper than {_DEEPEST}; wanted: a state dict, or a checkpoint with '
        'one in it. Save the weights alone.'
      )
    for name, value in inside.items():
      if isinstance(name, str) and isinstance(value, tensor):
        flat[before + name] = value
      elif isinstance(name, str):
        unseen.append((f'{before}{name}/', depth + 1, value))
  return flat


def _to_numpy(
  name: str, tensor: Any, torch: Any, path: pathlib.Path
) -> np.ndarray:
  """Views a tensor as an array, without a copy."""
  try:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
      # NumPy knows it by its bits alone.
      return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
  except (RuntimeError, TypeError) as error:
    raise InputError(
      f'{path}: {name} is no plain tensor ({tensor.dtype}, {tensor.layout}: '
      f'{error}). Save the weights dense and in float32.'
    ) from error
