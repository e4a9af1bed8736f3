"""The chunks of a store on disk: Orbax checkpoints, each with a digest in it.

The digest is that of the embeddings' bytes, in the file `sha256`. Chunks of
earlier versions have none and are read unchecked.
"""

import hashlib
import pathlib
import shutil

import numpy as np
import orbax.checkpoint as ocp

from advbct_jax.atomic_files import write_text
from advbct_jax.errors import InputError, brief_reason
from advbct_jax.literal_paths import literal_path

_DIGEST = 'sha256'

# For writing. Orbax gives up after ten minutes by the clock of the day, which
# may jump.
PATIENCE_SECONDS = 10**9


def write_chunk_file(path: pathlib.Path, embeddings: np.ndarray) -> None:
  """Writes a chunk and reads it back; it appears whole or not at all.

  Args:
    path: of the checkpoint, which is not there yet.
    embeddings: [rows, D].

  Raises:
    InputError: if what was written cannot be read back as it was.
  """
  embeddings = np.ascontiguousarray(embeddings)
  with ocp.StandardCheckpointer(
    async_options=ocp.AsyncOptions(timeout_secs=PATIENCE_SECONDS)
  ) as checkpointer:
    checkpointer.save(literal_path(path), {'embeddings': embeddings})
  try:
    # Orbax may write a part, warn, and return.
    stored = read_chunk_file(path, embeddings.shape, embeddings.dtype)
    if not np.array_equal(stored, embeddings):
      raise InputError(
        f'{path}: this chunk of the store is read back with other values than '
        'were written. The disk or its file system is damaged; name another '
        'place.'
      )
  except InputError:
    shutil.rmtree(path, ignore_errors=True)
    raise
  write_text(path / _DIGEST, _digest(embeddings) + '\n')


def is_checked(path: pathlib.Path) -> bool:
  """Whether a chunk was read back after it was written."""
  return (path / _DIGEST).exists()


def stored_digest(path: pathlib.Path) -> str | None:
  """The digest that was written with a chunk; None for earlier versions'."""
  digest = path / _DIGEST
  return digest.read_text('utf-8').strip() if digest.exists() else None


def read_chunk_file(
  path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype | str
) -> np.ndarray:
  """Reads a chunk.

  Args:
    path: of the checkpoint.
    shape: rows and D that it must have.
    dtype: that it must have.

  Raises:
    InputError: if it is missing, of another shape, damaged or changed.
  """
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      stored = checkpointer.restore(
        literal_path(path), {'embeddings': np.zeros(shape, dtype)}
      )['embeddings']
    if stored.shape != shape:
      raise ValueError(f'it is {stored.shape}, wanted {shape}')
    digest = path / _DIGEST
    if (
      digest.exists()
      and digest.read_bytes().strip() != _digest(stored).encode()
    ):
      raise ValueError('it was changed or damaged after it was written')
    return stored
  # The libraries below raise KeyError and TypeError, too, for what is damaged.
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise InputError(
      f'{path}: cannot read this chunk of the store '
      f'({brief_reason(error)}). Delete it and fill the store again.'
    ) from error


def _digest(embeddings: np.ndarray) -> str:
  return hashlib.sha256(np.ascontiguousarray(embeddings).data).hexdigest()
