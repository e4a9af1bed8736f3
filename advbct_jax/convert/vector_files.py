"""Files of vectors, read and written in blocks.

    NAME.npy        [N, D] vectors
    NAME.npz        `embeddings` [N, D] (or `vectors`, or the only array of two
                    axes), `ids` [N], and where there are labels `labels` [N]
    NAME.parquet    the columns `id`, `embedding` (a list of D numbers, or the
                    only column of lists), `label`
    NAME.faiss      a FAISS index (.index too) that gives its vectors back

What a file has no place for lies beside it: NAME.ids.txt and NAME.labels.txt, a
line a vector, and NAME.json, the card of the store that the vectors are from.
Other names of columns and arrays can be said (`vector_columns.py`). Vectors are
floats of any width, bfloat16 too, or int8, with or without a scale.
"""

from collections.abc import Callable, Iterator, Sequence
import pathlib
from typing import Protocol

import numpy as np

from advbct_jax.convert.array_vectors import open_npy, open_npz
from advbct_jax.convert.index_files import IndexFile
from advbct_jax.convert.parquet_files import ParquetFile
from advbct_jax.convert.vector_columns import VectorColumns
from advbct_jax.errors import InputError

# 8 MiB of float32 are read at once.
_BLOCK_VALUES = 2**21


class VectorFile(Protocol):
  """N vectors in a file.

  Attributes:
    path: of the file.
    count: the number of vectors N.
    dimension: their width D.
    exact: False where the file has approximations of the vectors alone.
    integers: whether they are int8.
    scaled: whether these were multiplied by a scale.
    metric: what they are compared by, `inner_product`, `l2` or another name;
      None where the file doesn't say.
  """

  path: pathlib.Path
  count: int
  dimension: int
  exact: bool
  integers: bool
  scaled: bool
  metric: str | None

  def ids(self) -> list[str] | None:
    """The [N] ids in the file or beside it; None without."""
    ...

  def labels(self) -> list[str] | None:
    """The [N] labels in the file or beside it; None without."""
    ...

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    """Reads from a row on, [≤ rows, D] floats or int8 at a time."""
    ...


def open_vectors(
  path: pathlib.Path, columns: VectorColumns | None = None
) -> VectorFile:
  """Opens a file of vectors by its suffix.

  Args:
    path: of the file.
    columns: what a user says of its columns; None for nothing.

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
  file = opened(path, columns or VectorColumns())
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


_FORMATS: dict[str, Callable[[pathlib.Path, VectorColumns], VectorFile]] = {
  '.npy': open_npy,
  '.npz': open_npz,
  '.parquet': ParquetFile,
  '.faiss': IndexFile,
  '.index': IndexFile,
}

# Of files that may hold vectors.
SUFFIXES = tuple(_FORMATS)


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
