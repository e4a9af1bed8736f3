"""The chunks of a store on disk: Orbax checkpoints, each with a digest in it.

The digest is that of the embeddings' bytes, in the file `sha256`. Chunks of
earlier versions have none and are read unchecked.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from advbct_jax.atomic_files import write_text
from advbct_jax.errors import InputError, brief_reason
from advbct_jax.literal_paths import literal_path
from advbct_jax.orbax_options import by_itself

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
  if jax.process_index():
    _save_elsewhere(path, embeddings)
  else:
    _save(path, embeddings)
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


def _save(path: pathlib.Path, embeddings: np.ndarray) -> None:
  with ocp.StandardCheckpointer(
    async_options=ocp.AsyncOptions(timeout_secs=PATIENCE_SECONDS),
    multiprocessing_options=by_itself(),
  ) as checkpointer:
    checkpointer.save(literal_path(path), {'embeddings': embeddings})


def _save_elsewhere(path: pathlib.Path, embeddings: np.ndarray) -> None:
  """Saves in a process that is alone.

  Orbax takes an array of NumPy for one that all processes have, of which the
  first writes it; here each has chunks of its own.
  """
  ran = subprocess.run(
    [
      *(sys.executable, '-m', __name__, path),
      *(embeddings.dtype.name, *map(str, embeddings.shape)),
    ],
    input=embeddings.tobytes(),
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
    },
    stderr=subprocess.PIPE,
    check=False,
  )
  if ran.returncode:
    raise InputError(
      f'{path}: this chunk of the store could not be written '
      f'({ran.stderr.decode(errors="replace").strip()[-300:]}). See to the '
      'disk, and run the same command again.'
    )


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
    with ocp.StandardCheckpointer(
      multiprocessing_options=by_itself()
    ) as checkpointer:
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


def _main() -> None:
  """Saves what `_save_elsewhere` sends: PATH DTYPE ROWS D."""
  _, path, dtype, *shape = sys.argv
  embeddings = np.frombuffer(sys.stdin.buffer.read(), np.dtype(dtype))
  _save(pathlib.Path(path), embeddings.reshape([*map(int, shape)]))


if __name__ == '__main__':
  _main()
