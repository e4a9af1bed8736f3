"""FAISS indexes from files that may lie about what is in them."""

import pathlib
from typing import Any

import faiss

# FAISS makes room for whatever a file claims. The versions that can be told of
# a limit have these functions; others, and what they do not cover, are not
# safe against files that were made to do harm.
_LIMITS = ('deserialization_vector_byte_limit', 'deserialization_loop_limit')


# In bytes. A longer file that is cut short hardly ends within a header.
_SMALL = 2**20


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
    if flags and size <= _SMALL:
      # FAISS 1.15 crashes where a mapped file ends within one of its headers,
      # and says so where it reads it.
      faiss.read_index(str(path))
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
  _require_consistent(index)
  return index


def _require_consistent(index: Any) -> None:
  """Refuses parts that don't fit each other, beyond whose ends FAISS reads."""
  index = faiss.downcast_index(index)
  code: Any
  for name in ('index', 'storage', 'base_index', 'refine_index'):
    inner = getattr(index, name, None)
    if inner is not None:
      if inner.ntotal != index.ntotal:
        raise RuntimeError(f'{index.ntotal} vectors, and {inner.ntotal} in it')
      _require_consistent(inner)
  inverted = isinstance(index, faiss.IndexIVF)
  if inverted:
    coarse = index.quantizer
    if coarse.d != index.d or coarse.ntotal != index.nlist:
      raise RuntimeError(f'{index.nlist} lists, but {coarse.ntotal} centres')
    lists = index.invlists
    if (lists.nlist, lists.code_size) != (index.nlist, index.code_size):
      raise RuntimeError(f'{index.nlist} lists claimed, {lists.nlist} there')
  if isinstance(index, faiss.IndexPQ | faiss.IndexIVFPQ):
    code, numbers = index.pq, index.pq.centroids.size()
    wanted = code.d * code.ksub
  elif isinstance(
    index, faiss.IndexScalarQuantizer | faiss.IndexIVFScalarQuantizer
  ):
    code, numbers = index.sq, index.sq.trained.size()
    uniform = numbers <= 2  # one range for all, or none is needed
    wanted = numbers if uniform else 2 * code.d
  else:
    return
  if (
    code.d != index.d
    or code.code_size != index.code_size
    or (numbers != wanted)
  ):
    raise RuntimeError('its codes are of another width than it is')
