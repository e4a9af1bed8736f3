"""Parquet files of vectors: the columns `id`, `embedding` and `label`."""

from collections.abc import Iterator, Sequence
import contextlib
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from advbct_jax.convert.array_files import TEXT_ROWS, reading
from advbct_jax.convert.ids_and_labels import (
  classes,
  ids_beside,
  labels_beside,
)
from advbct_jax.errors import InputError

# Without a buffer Arrow holds whole columns of a row group, and where it reads
# ahead, in the end the whole file.
_PARQUET_BUFFER = 2**20


class ParquetFile:
  """A Parquet file, whose column of vectors is left alone for its ids."""

  exact = True

  def __init__(self, path: pathlib.Path):
    self.path = path
    with _reading_parquet(path):
      self._file = pq.ParquetFile(
        path,
        buffer_size=_PARQUET_BUFFER,
        pre_buffer=False,
        page_checksum_verification=True,
      )
      self._columns = self._file.schema_arrow.names
      self.count = self._file.metadata.num_rows
    kind = None
    if 'embedding' in self._columns:
      kind = self._file.schema_arrow.field('embedding').type
    lists = (pa.types.is_list, pa.types.is_large_list)
    if kind is not None and pa.types.is_fixed_size_list(kind):
      self.dimension = kind.list_size
    elif kind is not None and any(is_list(kind) for is_list in lists):
      first = next(self._batches('embedding', 0, 1), None)
      self.dimension = len(first.flatten()) if first is not None else 0
    else:
      kind = None
    if kind is None or not pa.types.is_floating(kind.value_type):
      found = ', '.join(
        f'{field.name} ({field.type})' for field in self._file.schema_arrow
      )
      raise InputError(
        f'{path}: found the columns {found}; wanted `id`, `embedding` (a list '
        'of floats) and, where there are labels, `label`.'
      )
    if self.count and not self.dimension:
      raise InputError(
        f'{path}, row 0: found no vector, or one of no numbers. Wanted one in '
        'every row, as wide as the first; mend it or take the row out.'
      )

  def ids(self) -> list[str] | None:
    """The [N] ids, a missing one empty; None without a column of them."""
    if 'id' not in self._columns:
      return ids_beside(self.path)
    return list(self._texts('id'))

  def labels(self) -> list[str] | None:
    """The [N] labels, '' for a missing one; None without a column of them."""
    if 'label' not in self._columns:
      return labels_beside(self.path)
    return classes(self._texts('label'))

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    """Reads from a row on, [≤ rows, D] at a time."""
    row = start
    for column in self._batches('embedding', start, rows):
      yield self._matrix(column, row)
      row += len(column)

  def _matrix(self, column: pa.Array, row: int) -> np.ndarray:
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    wrong = lengths != self.dimension
    if wrong.any():
      place = int(wrong.argmax())
      raise InputError(
        f'{self.path}, row {row + place}: found a vector of {lengths[place]} '
        f'numbers, wanted {self.dimension}, as in the first row.'
      )
    # A missing number is NaN here.
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, self.dimension)

  def _texts(self, name: str) -> Iterator[str]:
    for column in self._batches(name, 0, TEXT_ROWS):
      with _reading_parquet(self.path):
        if pa.types.is_floating(column.type):
          # Pandas makes integers with gaps floats, and the gaps NaN.
          column = pc.if_else(pc.is_nan(column), None, column)
        texts = column.cast(pa.string())
      # A missing id is refused as an empty one; a missing label is none.
      yield from texts.fill_null('').to_pylist()

  def _batches(self, name: str, start: int, rows: int) -> Iterator[pa.Array]:
    """Reads a column from a row on, [≤ rows] at a time."""
    groups: list[int] = []
    for group in range(self._file.num_row_groups):
      size = self._file.metadata.row_group(group).num_rows
      if groups or start < size:
        groups.append(group)
      else:
        start -= size
    with _reading_parquet(self.path):
      for batch in self._file.iter_batches(rows, groups, [name]):
        column = batch.column(0)[start:]
        start = max(start - len(batch), 0)
        if len(column):
          yield column


def write_parquet(
  path: pathlib.Path,
  shape: tuple[int, int],
  chunks: Iterator[np.ndarray],
  ids: Sequence[str],
  labels: Sequence[str] | None,
) -> None:
  """Writes vectors with their ids and labels; see `write_vectors`."""
  kind = pa.list_(pa.float32(), shape[1])
  schema = pa.schema([('id', pa.string()), ('embedding', kind)])
  texts = {'id': ids}
  if labels is not None:
    schema = schema.append(pa.field('label', pa.string()))
    texts['label'] = labels
  with pq.ParquetWriter(
    path, schema, use_dictionary=['label'], write_page_checksum=True
  ) as writer:
    row = 0
    for chunk in chunks:
      rows = slice(row, row := row + len(chunk))
      flat = pa.array(chunk.reshape(-1))
      columns = {name: values[rows] for name, values in texts.items()} | {
        'embedding': pa.FixedSizeListArray.from_arrays(flat, type=kind)
      }
      writer.write_table(pa.table(columns, schema))


@contextlib.contextmanager
def _reading_parquet(path: pathlib.Path) -> Iterator[None]:
  with reading(str(path)):
    try:
      yield
    except pa.ArrowException as error:
      raise ValueError(error) from error
