"""NumPy's .npy and .npz files, read in blocks and never unpickled.

They are read rather than mapped: mapped pages count as memory of the process.
Only a matrix in Fortran's order in an archive is in memory as a whole.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import io
import pathlib
import tokenize
from typing import IO
import zipfile
import zlib

import ml_dtypes
import numpy as np

from advbct_jax.errors import InputError, brief_reason

# NumPy's kinds of items. Text and integers, as ids and labels are.
TEXT_KINDS = 'USiu'
FLOAT_KINDS = 'f'
# NumPy has no name for it, and writes items of two bytes without a meaning.
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Texts that are in memory at once while they are read or written.
TEXT_ROWS = 65536
# In bytes. NumPy reads no more than 10,000, but all that a file claims first.
_LONGEST_HEADER = 2**16
# They take no room in a file.
_MOST_EMPTY = 2**24


@dataclasses.dataclass(frozen=True)
class StoredArray:
  """An array in NumPy's format, in a file or in a member of one.

  Attributes:
    where: its file and member, for messages.
    open: opens it at its header.
    shape: of the array.
    dtype: of its items.
    fortran_order: whether the first axis is the fastest.
    offset: bytes of the header.
    size: bytes that are there, with the header.
    seekable: whether any place in it is reached at once, unlike in an archive.
  """

  where: str
  open: Callable[[], IO[bytes]]
  shape: tuple[int, ...]
  dtype: np.dtype
  fortran_order: bool
  offset: int
  size: int
  seekable: bool

  def require(self, axes: int, kinds: str, wanted: str) -> None:
    """Refuses an array that cannot be read in blocks as what it should be.

    Args:
      axes: how many it should have.
      kinds: the letters of NumPy's kinds of items that it may have.
      wanted: the same in words.

    Raises:
      InputError: if it has other items or axes, or if its bytes are not as
        many as its header says.
    """
    if self.dtype.hasobject:
      raise InputError(
        f'{self.where}: an array of Python objects, which is a pickle. A '
        f'pickle can run code, so it is not read; wanted {wanted}. Save it '
        'with a plain dtype.'
      )
    kind = FLOAT_KINDS if self.dtype == BFLOAT16 else self.dtype.kind
    if kind not in kinds or len(self.shape) != axes:
      raise InputError(
        f'{self.where}: found {self.dtype} of shape {self.shape}, wanted '
        f'{wanted}.'
      )
    whole = self.offset + int(np.prod(self.shape, dtype=object)) * (
      self.dtype.itemsize
    )
    if self.size != whole:
      raise InputError(
        f'{self.where}: found {self.size} bytes, but its header speaks of '
        f'{self.shape} {self.dtype}, which are {whole}. The file is truncated '
        'or damaged; fetch or save it again.'
      )

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    """Reads the array from a row on.

    Args:
      start: the first row.
      rows: in a block, at most.

    Yields:
      [≤ rows, …] in the dtype of the file.

    Raises:
      InputError: if the file ends too early or is damaged.
    """
    with reading(self.where), self.open() as file:
      if self.fortran_order and len(self.shape) > 1:
        yield from self._blocks_of_columns(file, start, rows)
        return
      row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
      file.seek(self.offset + start * row_bytes)
      for first in range(start, self.shape[0], rows):
        count = min(rows, self.shape[0] - first)
        items = self._items(file, count * int(np.prod(self.shape[1:])), first)
        yield items.reshape(-1, *self.shape[1:])

  def _blocks_of_columns(
    self, file: IO[bytes], start: int, rows: int
  ) -> Iterator[np.ndarray]:
    """The same of a matrix that lies column by column (Fortran's order)."""
    count, width = self.shape
    if not self.seekable:
      # Each block would unpack the whole archive up to the last column.
      file.seek(self.offset)
      whole = self._items(file, count * width, 0).reshape(width, count).T
      for first in range(start, count, rows):
        yield np.ascontiguousarray(whole[first : first + rows])
      return
    for first in range(start, count, rows):
      block = np.empty((min(rows, count - first), width), self.dtype)
      for column in range(width):
        place = column * count + first
        file.seek(self.offset + place * self.dtype.itemsize)
        block[:, column] = self._items(file, len(block), first)
      yield block

  def _items(self, file: IO[bytes], count: int, row: int) -> np.ndarray:
    """Reads the next items of a file, which belong to rows from `row` on."""
    content = file.read(count * self.dtype.itemsize)
    if len(content) != count * self.dtype.itemsize:
      raise EOFError(f'it ends after row {row}')
    return np.frombuffer(content, self.dtype)

  def read_number(self) -> np.ndarray:
    """Reads an array of no axes, which is one number."""
    with reading(self.where), self.open() as file:
      file.seek(self.offset)
      return self._items(file, 1, 0)

  def texts(self, kinds: str = TEXT_KINDS) -> Iterator[str]:
    """Reads an array of strings or numbers, item by item, as text.

    Args:
      kinds: the letters of NumPy's kinds of items that it may have.

    Raises:
      InputError: if it has other items, or if the file is damaged.
    """
    numbers = 'numbers' if FLOAT_KINDS in kinds else 'integers'
    self.require(1, kinds, f'[N] strings or {numbers}')
    if not self.dtype.itemsize:
      if self.shape[0] > _MOST_EMPTY:
        raise InputError(
          f'{self.where}: found {self.shape[0]} texts without characters, '
          f'wanted at most {_MOST_EMPTY}. Save the texts themselves.'
        )
      yield from [''] * self.shape[0]
      return
    for block in self.blocks(0, TEXT_ROWS):
      if self.dtype.kind == 'S':
        with reading(self.where):
          block = np.strings.decode(block, 'utf-8')
      with reading(self.where):
        texts = list(map(str, block.tolist()))
      yield from texts


def read_npy(path: pathlib.Path) -> StoredArray:
  """Reads the header of a .npy file.

  Raises:
    InputError: if it is not an array in NumPy's format.
  """
  with reading(str(path)):
    return _stored(
      str(path), lambda: path.open('rb'), path.stat().st_size, seekable=True
    )


def read_npz(path: pathlib.Path) -> dict[str, StoredArray]:
  """Reads the headers of all arrays of a .npz file, by their names.

  Raises:
    InputError: if it is not a zip file of arrays in NumPy's format.
  """
  with reading(str(path)), zipfile.ZipFile(path) as archive:
    return {
      member.filename.removesuffix('.npy'): _stored(
        f'{path}, {member.filename}',
        _opener(path, member.filename),
        member.file_size,
        seekable=False,
      )
      for member in archive.infolist()
      if member.filename.endswith('.npy')
    }


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
  """Says which file it is that cannot be read.

  Args:
    where: the file.

  Raises:
    InputError: for anything that reading a damaged file may raise.
  """
  try:
    yield
  except InputError:
    raise
  except (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # zip files with a password
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,  # of NumPy's headers, which are Python
    SystemError,  # of characters that there are not
    MemoryError,  # of what claims to have no end
  ) as error:
    raise InputError(
      f'{where}: cannot be read ({brief_reason(error)}). The file is '
      'truncated, damaged or not what its name says; fetch or save it again.'
    ) from error


def _stored(
  where: str, open_: Callable[[], IO[bytes]], size: int, seekable: bool
) -> StoredArray:
  with open_() as file:
    version = np.lib.format.read_magic(file)
    # Version 3 is for structured dtypes with names beyond Latin-1.
    read_header = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
      raise InputError(
        f"{where}: found version {version} of NumPy's format, wanted 1.0 or "
        '2.0, which plain arrays have.'
      )
    length = file.read(2 if version == (1, 0) else 4)
    header = file.read(min(int.from_bytes(length, 'little'), _LONGEST_HEADER))
    shape, fortran_order, dtype = read_header(io.BytesIO(length + header))
    if not all(type(axis) is int and axis >= 0 for axis in shape):
      raise ValueError(f'it says that its shape is {shape}')
    if dtype.kind == 'V' and dtype.itemsize == 2 and not dtype.names:
      dtype = BFLOAT16
    return StoredArray(
      where, open_, shape, dtype, fortran_order, file.tell(), size, seekable
    )


def _opener(path: pathlib.Path, member: str) -> Callable[[], IO[bytes]]:
  # The file stays open for as long as one of its members is.
  def open_member() -> IO[bytes]:
    with zipfile.ZipFile(path) as archive:
      return archive.open(member)

  return open_member
