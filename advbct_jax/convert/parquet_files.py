"""Parquet files of vectors: the columns `id`, `embedding` and `label`.

PyArrow is imported where it is used, since it takes a while.
"""

from collections.abc import Iterator, Sequence
import contextlib
import pathlib
from typing import Any

import numpy as np

from advbct_jax.convert.array_files import TEXT_ROWS, reading
from advbct_jax.convert.ids_and_labels import (
  ids_beside,
  labels_beside,
  one_object_each,
)
from advbct_jax.convert.scales import apply_scale, parse_scale, shape_scale
from advbct_jax.convert.vector_columns import VectorColumns, find_column
from advbct_jax.errors import InputError, brief, brief_list

# Without a buffer Arrow holds whole columns of a row group, and where it reads
# ahead, in the end the whole file.
_PARQUET_BUFFER = 2**20
# Texts of which each says what it shares with the one before: few bytes may be
# many long texts, of which Arrow has as many in memory as it reads at a time.
_SHARING = 'DELTA_BYTE_ARRAY'
_SHARING_BYTES = 2**29
# Bytes of a column in a row group, unpacked, that nobody asks about; beyond
# them, how often it may be as large as the file has it.
_UNASKED = 2**27
_MOST_PACKED = 100
# Numbers of a vector.
_WIDEST = 2**20


class ParquetFile:
  """A Parquet file, whose column of vectors is left alone for its ids.

  Attributes: see `vector_files.VectorFile`.
  """

  exact = True
  metric: str | None = None

  def __init__(self, path: pathlib.Path, columns: VectorColumns):
    """Opens the file.

    Args:
      path: of the file.
      columns: the names of its columns, where they aren't the usual ones.

    Raises:
      InputError: if it is damaged, or has no such columns.
    """
    self.path = path
    self._file = self._open()
    with _reading_parquet(path):
      self._schema = self._file.schema_arrow
      self.count = self._file.metadata.num_rows
    size = path.stat().st_size
    if self.count > size:
      raise InputError(
        f'{path}: found {self.count} rows in {size} bytes, in which there '
        'cannot be as many vectors. Save it again.'
      )
    names = self._schema.names
    self._id = find_column(path, 'id_column', columns.id, ('id', 'ids'), names)
    self._label = find_column(
      path, 'label_column', columns.label, ('label', 'labels'), names
    )
    self._vector = self._find_vector(columns.vector)
    kind = self._schema.field(self._vector).type
    self.integers = _is_integer(kind.value_type)
    self.dimension = self._find_dimension(kind)
    if self.count and not self.dimension:
      raise InputError(
        f'{path}, row 0: found no vector, or one of no numbers. Wanted one in '
        'every row, as wide as the first; mend it or take the row out.'
      )
    self._scale = self._find_scale(columns.scale)
    self.scaled = self._scale is not None

  def ids(self) -> list[str] | None:
    """The [N] ids, a missing one empty; None without a column of them."""
    if self._id is None:
      return ids_beside(self.path)
    return list(self._texts(self._id))

  def labels(self) -> list[str] | None:
    """The [N] labels, '' for a missing one; None without a column of them."""
    if self._label is None:
      return labels_beside(self.path)
    return one_object_each(self._texts(self._label))

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    """Reads from a row on, [≤ rows, D] at a time."""
    row = start
    for column in self._batches(self._vector, start, rows):
      yield apply_scale(self._matrix(column, row), self._scale, row)
      row += len(column)

  def _find_vector(self, given: str | None) -> str:
    """The name of the column of vectors: said, usual, or the only one."""
    lists = [field.name for field in self._schema if _is_vector(field.type)]
    usual = ('embedding', 'embeddings', 'vector', 'vectors')
    name = find_column(self.path, 'vector_column', given, usual, lists)
    if name is None and len(lists) == 1:
      (name,) = lists
    if name is None:
      found = brief_list(
        [f'{field.name} ({field.type})' for field in self._schema]
      )
      raise InputError(
        f'{self.path}: found the columns {found}; wanted `id`, `embedding` (a '
        'list of floats or int8) and, where there are labels, `label`. Name '
        'them by --id_column, --vector_column and --label_column.'
      )
    return name

  def _find_dimension(self, kind: Any) -> int:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
      return kind.list_size
    first = next(self._batches(self._vector, 0, 1), None)
    return len(first.flatten()) if first is not None else 0

  def _find_scale(self, given: str | None) -> np.ndarray | None:
    """The scale of all vectors or of each; floats have none."""
    if not self.integers:
      if given is not None:
        kind = self._schema.field(self._vector).type
        raise InputError(
          f'{self.path}: found --scale={given}, which is for int8 vectors; '
          f'{self._vector} is {kind}. Leave it out.'
        )
      return None
    scale = parse_scale(given)
    if scale is None:
      names = self._schema.names
      name = find_column(self.path, 'scale', given, ('scale', 'scales'), names)
      if name is None:
        return None
      with _reading_parquet(self.path):
        columns = [
          column.cast('float32').to_numpy(zero_copy_only=False)
          for column in self._batches(name, 0, TEXT_ROWS)
        ]
      # One a vector, whatever the width is.
      scale = np.concatenate(columns)[:, None]
    return shape_scale(scale, (self.count, self.dimension), self.path)

  def _matrix(self, column: Any, row: int) -> np.ndarray:
    import pyarrow.compute as pc

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
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = self._schema.types[self._schema.names.index(name)]
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    at_a_time, opened = TEXT_ROWS, None
    if longest := self._longest_sharing(name):
      at_a_time = max(1, min(TEXT_ROWS, _SHARING_BYTES // longest))
    elif is_text:
      # A few long texts, each in very many rows, are in memory once.
      opened = self._open(read_dictionary=[name])
    unpacked = 0
    for column in self._batches(name, 0, at_a_time, opened):
      if longest:
        unpacked += column.nbytes
        self._require_worth_its_bytes(name, unpacked)
      rows = None
      with _reading_parquet(self.path):
        if pa.types.is_dictionary(column.type):
          rows = column.indices.fill_null(-1).to_pylist()
          column = column.dictionary
        if pa.types.is_floating(column.type):
          # Pandas makes integers with gaps floats, and the gaps NaN.
          column = pc.if_else(pc.is_nan(column), None, column)
        texts = column.cast(pa.string())
      # A missing id is refused as an empty one; a missing label is none.
      known = texts.fill_null('').to_pylist()
      if rows is not None:
        known = [*known, '']
        known = [known[row] for row in rows]
      yield from known

  def _longest_sharing(self, name: str) -> int:
    """How long a text may be of those that share parts; 0 where none do."""
    metadata = self._file.metadata
    return max(
      (
        column.total_uncompressed_size
        for group in range(metadata.num_row_groups)
        for place in range(metadata.row_group(group).num_columns)
        for column in [metadata.row_group(group).column(place)]
        if column.path_in_schema == name and _SHARING in column.encodings
      ),
      default=0,
    )

  def _require_worth_its_bytes(self, name: str, unpacked: int) -> None:
    size = self.path.stat().st_size
    if unpacked > max(_UNASKED, _MOST_PACKED * size):
      raise InputError(
        f'{self.path}: it has {size} bytes, and its column {brief(name)} '
        f'unpacks to more than {unpacked}, which no ids do. Save it again.'
      )

  def _open(self, **options: Any) -> Any:
    import pyarrow.parquet as pq

    with _reading_parquet(self.path):
      return pq.ParquetFile(
        self.path,
        buffer_size=_PARQUET_BUFFER,
        pre_buffer=False,
        page_checksum_verification=True,
        **options,
      )

  def _require_plausible(self, name: str) -> None:
    """Refuses a column that unpacks to far more than the file has of it."""
    metadata = self._file.metadata
    for number in range(metadata.num_row_groups):
      group = metadata.row_group(number)
      for place in range(group.num_columns):
        column = group.column(place)
        # Those of lists have further names behind a dot.
        if f'{column.path_in_schema}.'.startswith(f'{name}.'):
          if column.num_values > _WIDEST * max(group.num_rows, 1):
            raise InputError(
              f'{self.path}: found {column.num_values} numbers in '
              f'{group.num_rows} rows of {brief(name)}, wanted at most '
              f'{_WIDEST} in each. Save it again.'
            )
          packed = column.total_compressed_size
          unpacked = column.total_uncompressed_size
          if unpacked > max(_UNASKED, _MOST_PACKED * packed):
            raise InputError(
              f'{self.path}: of the column {brief(name)} it has {packed} bytes '
              f'that would unpack to {unpacked}, which no vectors or ids do. '
              'Save it again.'
            )

  def _batches(
    self, name: str, start: int, rows: int, opened: Any = None
  ) -> Iterator[Any]:
    """Reads a column from a row on, [≤ rows] at a time."""
    self._require_plausible(name)
    groups: list[int] = []
    for group in range(self._file.num_row_groups):
      size = self._file.metadata.row_group(group).num_rows
      if groups or start < size:
        groups.append(group)
      else:
        start -= size
    with _reading_parquet(self.path):
      for batch in (opened or self._file).iter_batches(rows, groups, [name]):
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
  import pyarrow as pa
  import pyarrow.parquet as pq

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


def _is_vector(kind: Any) -> bool:
  import pyarrow as pa

  types = pa.types
  if not (
    types.is_list(kind)
    or types.is_large_list(kind)
    or types.is_fixed_size_list(kind)
  ):
    return False
  return types.is_floating(kind.value_type) or _is_integer(kind.value_type)


def _is_integer(kind: Any) -> bool:
  import pyarrow as pa

  return pa.types.is_int8(kind)


@contextlib.contextmanager
def _reading_parquet(path: pathlib.Path) -> Iterator[None]:
  import pyarrow as pa

  with reading(str(path)):
    try:
      yield
    except pa.ArrowException as error:
      raise ValueError(error) from error
