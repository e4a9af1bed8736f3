"""FAISS indexes from files that may lie about what is in them."""

import pathlib
from typing import Any

import faiss

# FAISS makes room for whatever a file claims. The versions that can be told of
# a limit have these functions; others, and what they do not cover, are not
# safe against files that were made to do harm.
_LIMITS = ('deserialization_vector_byte_limit', 'deserialization_loop_limit')


def read_faiss(path: pathlib.Path, flags: int = 0) -> Any:
  """Reads an index, with no more room for any part than its file has bytes.

  Args:
    path: what `faiss.write_index` wrote.
    flags: of `faiss.read_index`.

  Raises:
    OSError: if there is no such file.
    RuntimeError: if it is no whole index.
  """
  size = path.stat().st_size
  names = vars(faiss)
  known = [name for name in _LIMITS if f'set_{name}' in names]
  before = {name: names[f'get_{name}']() for name in known}
  try:
    for name in known:
      names[f'set_{name}'](max(size, 1))
    index = faiss.read_index(str(path), flags)
  except MemoryError as error:
    raise RuntimeError('it claims more than there is memory for') from error
  finally:
    for name, limit in before.items():
      names[f'set_{name}'](limit)
  # Each vector takes a byte at least.
  if not 0 <= index.ntotal <= size or not 0 < index.d <= max(size, 2**20):
    raise RuntimeError(
      f'it claims {index.ntotal} vectors of width {index.d} in {size} bytes'
    )
  return index
