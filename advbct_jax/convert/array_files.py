"""NumPy's .npy and .npz files, read in blocks and never unpickled.

They are read rather than mapped: mapped pages count as memory of the process.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import pathlib
from typing import IO
import zipfile
import zlib

import numpy as np

from advbct_jax.errors import InputError

# Text and integers, as ids and labels are.
TEXT_KINDS = 'USiu'
# Texts that are in memory at once while they are read or written.
TEXT_ROWS = 65536


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
  """

  where: str
  open: Callable[[], IO[bytes]]
  shape: tuple[int, ...]
  dtype: np.dtype
  fortran_order: bool
  offset: int
  size: int

  def require(self, axes: int, kinds: str, wanted: str) -> None:
    """Refuses an array that cannot be read in blocks as what it should be.

    Args:
      axes: how many it should have.
      kinds: the letters of NumPy's kinds of items that it may have.
      wanted: the same in words.

    Raises:
      InputError: if it has other items or axes, lies in Fortran's order, or if
        its bytes are not as many as its header says.
    """
    if self.dtype.hasobject:
      raise InputError(
        f'{self.where}: an array of Python objects, which is a pickle. A '
        f'pickle can run code, so it is not read; wanted {wanted}. Save it '
        'with a plain dtype.'
      )
    if self.dtype.kind not in kinds or len(self.shape) != axes:
      raise InputError(
        f'{self.where}: found {self.dtype} of shape {self.shape}, wanted '
        f'{wanted}.'
      )
    if self.fortran_order:
      raise InputError(
        f'{self.where}: it lies column by column (Fortran order) and cannot be '
        'read in blocks. Save numpy.ascontiguousarray of it.'
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
    row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
    with reading(self.where), self.open() as file:
      file.seek(self.offset + start * row_bytes)
      for first in range(start, self.shape[0], rows):
        count = min(rows, self.shape[0] - first)
        block = file.read(count * row_bytes)
        if len(block) != count * row_bytes:
          raise EOFError(f'it ends after row {first + len(block) // row_bytes}')
        yield np.frombuffer(block, self.dtype).reshape(-1, *self.shape[1:])

  def texts(self) -> Iterator[str]:
    """Reads an array of strings or integers, item by item, as text.

    Raises:
      InputError: if it has other items, or if the file is damaged.
    """
    self.require(1, TEXT_KINDS, '[N] strings or integers')
    if not self.dtype.itemsize:
      yield from [''] * self.shape[0]
      return
    for block in self.blocks(0, TEXT_ROWS):
      if self.dtype.kind == 'S':
        with reading(self.where):
          block = np.strings.decode(block, 'utf-8')
      yield from map(str, block.tolist())


def read_npy(path: pathlib.Path) -> StoredArray:
  """Reads the header of a .npy file.

  Raises:
    InputError: if it is not an array in NumPy's format.
  """
  with reading(str(path)):
    return _stored(str(path), lambda: path.open('rb'), path.stat().st_size)


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
  ) as error:
    raise InputError(
      f'{where}: cannot be read ({error}). The file is truncated, damaged or '
      'not what its name says; fetch or save it again.'
    ) from error


def _stored(
  where: str, open_: Callable[[], IO[bytes]], size: int
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
    shape, fortran_order, dtype = read_header(file)
    return StoredArray(
      where, open_, shape, dtype, fortran_order, file.tell(), size
    )


def _opener(path: pathlib.Path, member: str) -> Callable[[], IO[bytes]]:
  # The file stays open for as long as one of its members is.
  def open_member() -> IO[bytes]:
    with zipfile.ZipFile(path) as archive:
      return archive.open(member)

  return open_member
