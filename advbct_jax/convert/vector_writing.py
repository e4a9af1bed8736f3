"""Vectors, ids and labels are written as .npy, .npz or .parquet files."""

from collections.abc import Iterator, Sequence
import functools
import pathlib
from typing import IO
import zipfile

import numpy as np

from advbct_jax.convert.array_files import TEXT_ROWS
from advbct_jax.convert.parquet_files import write_parquet
from advbct_jax.errors import InputError


def require_suffix(path: pathlib.Path) -> None:
  """Refuses a file that `write_vectors` has no format for.

  Raises:
    InputError: with the known suffixes.
  """
  if path.suffix not in _WRITERS:
    raise InputError(
      f'{path}: found {path.suffix!r}, wanted {", ".join(_WRITERS)}.'
    )


def write_vectors(
  path: pathlib.Path,
  suffix: str,
  shape: tuple[int, int],
  chunks: Iterator[np.ndarray],
  ids: Sequence[str],
  labels: Sequence[str] | None,
) -> None:
  """Writes vectors chunk by chunk.

  Args:
    path: the file, whatever it is called.
    suffix: `.npy`, which has no place for ids and labels, `.npz` or `.parquet`.
    shape: N and D.
    chunks: [≤ N, D] float32, N rows in all.
    ids: [N].
    labels: [N], or None without.
  """
  _WRITERS[suffix](path, shape, chunks, ids, labels)


def _write_npy(
  path: pathlib.Path,
  shape: tuple[int, int],
  chunks: Iterator[np.ndarray],
  ids: Sequence[str],
  labels: Sequence[str] | None,
) -> None:
  with path.open('wb') as file:
    _write_array(file, np.dtype(np.float32), shape, chunks)


def _write_npz(
  path: pathlib.Path,
  shape: tuple[int, int],
  chunks: Iterator[np.ndarray],
  ids: Sequence[str],
  labels: Sequence[str] | None,
) -> None:
  with zipfile.ZipFile(path, 'w') as archive:
    member = functools.partial(archive.open, mode='w', force_zip64=True)
    with member('embeddings.npy') as file:
      _write_array(file, np.dtype(np.float32), shape, chunks)
    for name, texts in (('ids', ids), ('labels', labels)):
      if texts is not None:
        with member(f'{name}.npy') as file:
          _write_texts(file, texts)


_WRITERS = {'.npy': _write_npy, '.npz': _write_npz, '.parquet': write_parquet}


def _write_array(
  file: IO[bytes],
  dtype: np.dtype,
  shape: tuple[int, ...],
  blocks: Iterator[np.ndarray],
) -> None:
  header = {
    'descr': np.lib.format.dtype_to_descr(dtype),
    'fortran_order': False,
    'shape': shape,
  }
  np.lib.format.write_array_header_1_0(file, header)
  for block in blocks:
    file.write(np.ascontiguousarray(block, dtype).data)


def _write_texts(file: IO[bytes], texts: Sequence[str]) -> None:
  if odd := next((text for text in texts if text.endswith('\0')), None):
    raise InputError(
      f'{odd!r} ends in a NUL, which is lost in a .npz file. Take .npy or '
      '.parquet.'
    )
  # NumPy's strings are as wide as the longest, and none has no width.
  dtype = np.dtype(f'<U{max(max(map(len, texts)), 1)}')
  blocks = (
    np.array(texts[start : start + TEXT_ROWS], dtype)
    for start in range(0, len(texts), TEXT_ROWS)
  )
  _write_array(file, dtype, (len(texts),), blocks)
