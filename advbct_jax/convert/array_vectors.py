"""NumPy's .npy and .npz files as files of vectors."""

from collections.abc import Iterator
import pathlib

import numpy as np

from advbct_jax.convert.array_files import (
  FLOAT_KINDS,
  TEXT_KINDS,
  StoredArray,
  read_npy,
  read_npz,
)
from advbct_jax.convert.ids_and_labels import (
  ids_beside,
  labels_beside,
  one_object_each,
)
from advbct_jax.convert.scales import apply_scale, parse_scale, shape_scale
from advbct_jax.convert.vector_columns import VectorColumns, find_column
from advbct_jax.errors import InputError

_WANTED = '[N, D] float16, bfloat16, float32, float64 or int8'


class ArrayFile:
  """A .npy file, or a .npz file with some.

  Attributes: see `vector_files.VectorFile`.
  """

  exact = True
  metric: str | None = None

  def __init__(
    self,
    path: pathlib.Path,
    vectors: StoredArray,
    ids: StoredArray | None = None,
    labels: StoredArray | None = None,
    scale: np.ndarray | None = None,
  ):
    vectors.require(2, 'fi', _WANTED)
    self.integers = vectors.dtype.kind == 'i'
    if vectors.dtype.itemsize > (1 if self.integers else 8):
      raise InputError(
        f'{vectors.where}: found {vectors.dtype}, wanted {_WANTED}.'
      )
    self.path = path
    self.count, self.dimension = vectors.shape
    self._vectors = vectors
    self._ids = ids
    self._labels = labels
    self._scale: np.ndarray | None = None
    if scale is not None and self.integers:
      self._scale = shape_scale(scale, (self.count, self.dimension), path)
    self.scaled = self._scale is not None

  def ids(self) -> list[str] | None:
    """The [N] ids in the file or beside it; None without."""
    if self._ids is None:
      return ids_beside(self.path)
    return list(self._ids.texts())

  def labels(self) -> list[str] | None:
    """The [N] labels in the file or beside it; None without."""
    if self._labels is None:
      return labels_beside(self.path)
    return one_object_each(self._labels.texts(TEXT_KINDS + FLOAT_KINDS))

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    """Reads from a row on, [≤ rows, D] at a time."""
    row = start
    for block in self._vectors.blocks(start, rows):
      yield apply_scale(block, self._scale, row)
      row += len(block)


def open_npy(path: pathlib.Path, columns: VectorColumns) -> ArrayFile:
  """Opens a .npy file, which has vectors alone; a scale is a number."""
  scale = parse_scale(columns.scale)
  if columns.scale is not None and scale is None:
    raise InputError(
      f'{path}: found --scale={columns.scale}; a .npy file has no other array, '
      'wanted a number.'
    )
  return _opened(path, columns, read_npy(path), scale=scale)


def open_npz(path: pathlib.Path, columns: VectorColumns) -> ArrayFile:
  """Opens a .npz file of the arrays that the columns name."""
  arrays = read_npz(path)

  def find(flag: str, given: str | None, *usual: str) -> StoredArray | None:
    name = find_column(path, flag, given, usual, arrays)
    return None if name is None else arrays[name]

  scale = parse_scale(columns.scale)
  stored = None
  if scale is None:
    stored = find('scale', columns.scale, 'scale', 'scales')
  vectors = find('vector_column', columns.vector, 'embeddings', 'vectors')
  if vectors is None:
    # Scales may have two axes, too.
    others = [array for array in arrays.values() if array is not stored]
    matrices = [array for array in others if len(array.shape) == 2]
    if len(matrices) != 1:
      raise InputError(
        f'{path}: found the arrays {", ".join(arrays) or "none"}; wanted '
        f'`embeddings` {_WANTED}, `ids` [N] and, where there are labels, '
        '`labels` [N]. Name them by --vector_column, --id_column and '
        '--label_column.'
      )
    vectors = matrices[0]
  if stored is not None and vectors.dtype.kind == 'i':
    scale = _read_scale(stored)
  return _opened(
    path,
    columns,
    vectors,
    find('id_column', columns.id, 'ids', 'id'),
    find('label_column', columns.label, 'labels', 'label'),
    scale,
  )


def _opened(
  path: pathlib.Path,
  columns: VectorColumns,
  vectors: StoredArray,
  ids: StoredArray | None = None,
  labels: StoredArray | None = None,
  scale: np.ndarray | None = None,
) -> ArrayFile:
  file = ArrayFile(path, vectors, ids, labels, scale)
  if columns.scale is not None and not file.integers:
    raise InputError(
      f'{vectors.where}: found --scale={columns.scale}, which is for int8 '
      f'vectors; these are {vectors.dtype}. Leave it out.'
    )
  return file


def _read_scale(stored: StoredArray) -> np.ndarray:
  """Reads all of an array of scales; they are few or one a vector."""
  stored.require(len(stored.shape), FLOAT_KINDS, 'scales of floats')
  if not stored.shape:
    return stored.read_number()
  return np.concatenate(list(stored.blocks(0, max(stored.shape[0], 1))))
