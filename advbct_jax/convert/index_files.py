"""FAISS indexes as files of vectors."""

from collections.abc import Iterator
import pathlib

import numpy as np

from advbct_jax.convert.ids_and_labels import (
  beside,
  ids_beside,
  labels_beside,
)
from advbct_jax.convert.vector_columns import VectorColumns
from advbct_jax.errors import InputError
from advbct_jax.retrieval.index_vectors import read_vectors


class IndexFile:
  """A FAISS index; the lines beside it are in the order of FAISS's ids.

  Attributes: see `vector_files.VectorFile`.
  """

  integers = False
  scaled = False

  def __init__(self, path: pathlib.Path, columns: VectorColumns):
    """Opens the index; it has nothing that `columns` could name."""
    if columns.scale is not None:
      raise InputError(
        f'{path}: found --scale={columns.scale}, which is for int8 vectors; '
        'an index has floats. Leave it out.'
      )
    self.path = path
    self._index = read_vectors(path)
    self.count = self._index.count
    self.dimension = self._index.dimension
    self.exact = self._index.exact
    self.metric: str | None = self._index.metric

  def ids(self) -> list[str] | None:
    """The [N] ids: FAISS's own, or those that they are the lines of."""
    lines, names = ids_beside(self.path), self._names()
    # FAISS's ids may be the names, or lines of the list of names.
    return names if lines in (None, names) else self._lines(lines, 'ids')

  def labels(self) -> list[str] | None:
    """The [N] labels beside it; None without."""
    labels = labels_beside(self.path)
    lines = None if labels is None else ids_beside(self.path)
    if labels is None or lines in (None, self._names()):
      return labels
    return self._lines(labels, 'labels')

  def blocks(self, start: int, rows: int) -> Iterator[np.ndarray]:
    """Reads from a row on, [≤ rows, D] float32 at a time."""
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
