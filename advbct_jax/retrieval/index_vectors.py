"""The vectors that lie in anyone's FAISS index, given back in blocks."""

from collections.abc import Iterator
import os
import pathlib
from typing import Any

import faiss
import numpy as np

from advbct_jax.errors import InputError, brief_reason
from advbct_jax.retrieval.index_reading import read_faiss

# By id, whatever the ids are.
_HASHTABLE: Any = vars(faiss)['DirectMap'].Hashtable
_METRICS = {
  faiss.METRIC_INNER_PRODUCT: 'inner_product',
  faiss.METRIC_L2: 'l2',
}


class IndexVectors:
  """A FAISS index as N vectors in the order of its rows.

  Inverted lists have no rows; there the order is that of FAISS's ids.

  Attributes:
    path: of the index.
    count: the number of vectors N.
    dimension: their width D.
    keys: [N] int64, what FAISS calls them; None where it only counts them.
    exact: whether the index has the vectors as they were added, rather than
      approximations.
    metric: what it ranks by: `inner_product`, `l2`, or another one of FAISS's.
  """

  def __init__(self, path: pathlib.Path):
    """Use `read_vectors`."""
    self.path = path
    try:
      # Mapped, so that a flat index of any size is read a block at a time.
      self._outer: Any = read_faiss(path, faiss.IO_FLAG_MMAP_IFC)
      self.count, self.dimension = self._outer.ntotal, self._outer.d
      # The outer index owns the inner one.
      self._index, self.keys = _unwrap(path, self._outer)
      self._numbers = _prepare(self._index)
      if self.count:
        self._reconstruct(0, 1)
    except (RuntimeError, TypeError, AttributeError, MemoryError) as error:
      raise InputError(
        f'{path}: not a FAISS index that gives its vectors back '
        f'({brief_reason(error)}). The file is truncated or damaged, or of a '
        'kind that does not keep vectors; take them from where the index was '
        'built.'
      ) from error
    if self.keys is None and self._numbers is not None:
      counted = np.array_equal(self._numbers, np.arange(self.count))
      self.keys = None if counted else self._numbers
    self.exact = _is_exact(self._index)
    kind = self._outer.metric_type
    self.metric = _METRICS.get(kind, f"FAISS's metric {kind}")

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    """Reads the vectors from a row on.

    Args:
      start: the first row.
      rows: in a block, at most.

    Yields:
      [≤ rows, D] float32.
    """
    for first in range(start, self.count, rows):
      yield self._reconstruct(first, min(first + rows, self.count))

  def _reconstruct(self, start: int, stop: int) -> np.ndarray:
    if self._numbers is None:
      return self._index.reconstruct_n(start, stop - start)
    return self._index.reconstruct_batch(self._numbers[start:stop])


def read_vectors(path: pathlib.Path) -> IndexVectors:
  """Opens the vectors of a FAISS index.

  Args:
    path: what `faiss.write_index` wrote.

  Raises:
    InputError: if it is no whole index, or of a kind that cannot give its
      vectors back.
  """
  return IndexVectors(path)


def _unwrap(path: pathlib.Path, index: Any) -> tuple[Any, np.ndarray | None]:
  """The index under an id map, and the ids of its rows."""
  if not isinstance(index, faiss.IndexIDMap):
    return index, None
  keys = faiss.vector_to_array(index.id_map)
  # The ids end the file. FAISS maps up to seven bytes that are not there.
  with path.open('rb') as file:
    file.seek(-min(8, path.stat().st_size), os.SEEK_END)
    ending = file.read()
  if len(keys) != index.ntotal or keys[-1:].tobytes() != ending:
    raise RuntimeError(f'its {index.ntotal} ids are not all there')
  return faiss.downcast_index(index.index), keys


def _prepare(index: Any) -> np.ndarray | None:
  """Makes inverted lists reconstruct by id; their ids, sorted."""
  inverted: Any = faiss.try_extract_index_ivf(index)
  if inverted is None:
    return None
  kind = type(faiss.downcast_index(inverted))
  if issubclass(kind, faiss.IndexIVFFastScan):
    # FAISS crashes when asked for vectors of packed codes.
    raise RuntimeError(f'{kind.__name__} has packed codes')
  lists = inverted.invlists
  sizes = [lists.list_size(number) for number in range(inverted.nlist)]
  numbers = [
    faiss.rev_swig_ptr(lists.get_ids(number), size).copy()
    for number, size in enumerate(sizes)
    if size
  ]
  if not numbers:
    return None
  inverted.set_direct_map_type(_HASHTABLE)
  return np.sort(np.concatenate(numbers))


def _is_exact(index: Any) -> bool:
  """Whether what is reconstructed is what was added."""
  if isinstance(index, faiss.IndexRefine):
    return _is_exact(faiss.downcast_index(index.refine_index))
  if isinstance(index, faiss.IndexHNSW | faiss.IndexNSG):
    graph: Any = index
    return _is_exact(faiss.downcast_index(graph.storage))
  return isinstance(index, faiss.IndexFlat | faiss.IndexIVFFlat)
