"""Files of vectors, read and written in blocks.

    NAME.npy        [N, D] vectors
    NAME.npz        `embeddings` [N, D] (or `vectors`, or the only array of two
                    axes), `ids` [N], and where there are labels `labels` [N]
    NAME.parquet    the columns `id`, `embedding` (a list of D numbers), `label`
    NAME.faiss      a FAISS index (.index too) that gives its vectors back

What a file has no place for lies beside it: NAME.ids.txt and NAME.labels.txt, a
line a vector, and NAME.json, the card of the store that the vectors are from.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
import pathlib
from typing import IO, Protocol
import zipfile

import numpy as np

from advbct_jax.convert.array_files import (
  TEXT_ROWS,
  StoredArray,
  read_npy,
  read_npz,
)
from advbct_jax.convert.ids_and_labels import (
  beside,
  classes,
  ids_beside,
  labels_beside,
)
from advbct_jax.convert.parquet_files import ParquetFile, write_parquet
from advbct_jax.errors import InputError
from advbct_jax.retrieval.index_vectors import read_vectors

# 8 MiB of float32 are read at once.
_BLOCK_VALUES = 2**21
_WANTED_ARRAY = '[N, D] float16, float32 or float64'


class VectorFile(Protocol):
  """N vectors in a file.

  Attributes:
    path: of the file.
    count: the number of vectors N.
    dimension: their width D.
    exact: False where the file has approximations of the vectors alone.
  """

  path: pathlib.Path
  count: int
  dimension: int
  exact: bool

  def ids(self) -> list[str] | None:
    """The [N] ids in the file or beside it; None without."""
    ...

  def labels(self) -> list[str] | None:
    """The [N] labels in the file or beside it; None without."""
    ...

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    """Reads from a row on, [≤ rows, D] float16, 32 or 64 at a time."""
    ...


def open_vectors(path: pathlib.Path) -> VectorFile:
  """Opens a file of vectors by its suffix.

  Raises:
    InputError: if it is missing, damaged, or of another kind.
  """
  if not path.is_file():
    raise InputError(f'{path}: no such file of vectors.')
  opened = _FORMATS.get(path.suffix)
  if opened is None:
    raise InputError(
      f'{path}: found {path.suffix!r}, wanted {", ".join(_FORMATS)}. Pickles '
      '(.pkl, .pt, .pth) can run code and are not read; save the vectors with '
      'numpy.save.'
    )
  file = opened(path)
  if not file.count or not file.dimension:
    raise InputError(
      f'{path}: found {file.count} vectors of width {file.dimension}, wanted '
      'some. Save it again.'
    )
  return file


def read_rows(
  files: Sequence[VectorFile], start: int, rows: int
) -> Iterator[np.ndarray]:
  """Reads files one after the other, as if they were one.

  Args:
    files: of one width, N vectors in all.
    start: the first row.
    rows: in a block.

  Yields:
    [rows, D] float32, the last one shorter; only good until the next one.

  Raises:
    InputError: if a file is damaged or has fewer rows than it says.
  """
  block = np.empty((rows, files[0].dimension), np.float32)
  filled = 0
  for piece in _pieces(files, start):
    while len(piece):
      taken = min(rows - filled, len(piece))
      with np.errstate(over='ignore'):  # What is infinite is refused later.
        block[filled : filled + taken] = piece[:taken]
      piece = piece[taken:]
      filled += taken
      if filled == rows:
        yield block
        filled = 0
  if filled:
    yield block[:filled]


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


class _ArrayFile:
  """A .npy file, or a .npz file with some."""

  exact = True

  def __init__(
    self,
    path: pathlib.Path,
    vectors: StoredArray,
    ids: StoredArray | None = None,
    labels: StoredArray | None = None,
  ):
    vectors.require(2, 'f', _WANTED_ARRAY)
    if vectors.dtype.itemsize > 8:
      raise InputError(
        f'{vectors.where}: found {vectors.dtype}, wanted {_WANTED_ARRAY}.'
      )
    self.path = path
    self.count, self.dimension = vectors.shape
    self._vectors = vectors
    self._ids = ids
    self._labels = labels

  def ids(self) -> list[str] | None:
    if self._ids is None:
      return ids_beside(self.path)
    return list(self._ids.texts())

  def labels(self) -> list[str] | None:
    if self._labels is None:
      return labels_beside(self.path)
    return classes(self._labels.texts())

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    return self._vectors.blocks(start, rows)


class _IndexFile:
  """A FAISS index; the lines beside it are in the order of FAISS's ids."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self._index = read_vectors(path)
    self.count = self._index.count
    self.dimension = self._index.dimension
    self.exact = self._index.exact

  def ids(self) -> list[str] | None:
    lines, names = ids_beside(self.path), self._names()
    # FAISS's ids may be the names, or lines of the list of names.
    return names if lines in (None, names) else self._lines(lines, 'ids')

  def labels(self) -> list[str] | None:
    labels = labels_beside(self.path)
    lines = None if labels is None else ids_beside(self.path)
    if labels is None or lines in (None, self._names()):
      return labels
    return self._lines(labels, 'labels')

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    return self._index.blocks(start, rows)

  def _names(self) -> list[str] | None:
    """FAISS's ids as names of the images; None where it only counts."""
    keys = self._index.keys
    return None if keys is None else [str(key) for key in keys.tolist()]

  def _lines(self, lines: list[str], what: str) -> list[str]:
    """The line of each row, which FAISS's id is the number of."""
    keys = self._index.keys
    if keys is None:
      return lines
    unknown = (keys < 0) | (keys >= len(lines))
    if unknown.any():
      row = int(unknown.argmax())
      raise InputError(
        f'{beside(self.path, what)}: it has {len(lines)} lines, none of them '
        f'for the id {keys[row]} of FAISS (row {row}). Wanted: a line for each '
        "image, FAISS's id being its number from 0 in NAME.ids.txt and "
        "NAME.labels.txt, or FAISS's own ids in NAME.ids.txt. Name the right "
        "files, or take them away to keep FAISS's ids."
      )
    return [lines[key] for key in keys.tolist()]


def _open_npy(path: pathlib.Path) -> VectorFile:
  return _ArrayFile(path, read_npy(path))


def _open_npz(path: pathlib.Path) -> VectorFile:
  arrays = read_npz(path)
  matrices = [name for name, array in arrays.items() if len(array.shape) == 2]
  named = [name for name in ('embeddings', 'vectors') if name in arrays]
  if not named and len(matrices) != 1:
    raise InputError(
      f'{path}: found the arrays {", ".join(arrays) or "none"}; wanted '
      f'`embeddings` {_WANTED_ARRAY}, `ids` [N] and, where there are labels, '
      '`labels` [N].'
    )
  return _ArrayFile(
    path,
    arrays[(named or matrices)[0]],
    arrays.get('ids'),
    arrays.get('labels'),
  )


_FORMATS: dict[str, Callable[[pathlib.Path], VectorFile]] = {
  '.npy': _open_npy,
  '.npz': _open_npz,
  '.parquet': ParquetFile,
  '.faiss': _IndexFile,
  '.index': _IndexFile,
}


def _pieces(files: Sequence[VectorFile], start: int) -> Iterator[np.ndarray]:
  rows = max(_BLOCK_VALUES // files[0].dimension, 1)
  for file in files:
    if start >= file.count:
      start -= file.count
      continue
    read = start
    for piece in file.blocks(start, rows):
      yield piece
      read += len(piece)
    if read != file.count:
      raise InputError(
        f'{file.path}: found {read} vectors, but it says that it has '
        f'{file.count}. The file is damaged; fetch or save it again.'
      )
    start = 0


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
  # NumPy's strings are as wide as the longest, and none has no width.
  dtype = np.dtype(f'<U{max(max(map(len, texts)), 1)}')
  blocks = (
    np.array(texts[start : start + TEXT_ROWS], dtype)
    for start in range(0, len(texts), TEXT_ROWS)
  )
  _write_array(file, dtype, (len(texts),), blocks)
