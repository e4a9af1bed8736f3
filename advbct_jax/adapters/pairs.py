"""What two encoders said about the same images, side by side."""

from collections.abc import Iterator
import functools

import numpy as np

from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError


class Pairs:
  """The unit vectors of two stores, matched by the ids of their images.

  The new store's images count, in its order; what else the old one has is left
  out. So are images of which one of the two vectors is all zero: it has no
  direction, and would draw every map towards nothing. Rows are read a chunk at
  a time.

  Attributes:
    new: the new encoder's store, of N images and width D.
    old: the old encoder's, which has these images and maybe more, of width
      D_old.
  """

  def __init__(self, new: EmbeddingStore, old: EmbeddingStore):
    """Matches the rows.

    Args:
      new: a complete store.
      old: a complete store of the same images in any order.

    Raises:
      InputError: if the old store lacks images of the new one.
    """
    self.new = new
    self.old = old
    self._old_rows = _match(new, old)

  def __len__(self) -> int:
    """The number of pairs, those with a zero vector left out."""
    return int(self.directed.sum())

  @functools.cached_property
  def directed(self) -> np.ndarray:
    """[N] booleans: which images have two vectors that are not all zero."""
    directed = np.zeros(self.new.card.count, bool)
    for rows, _, _ in self.chunks():
      directed[rows] = True
    return directed

  def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Reads all pairs in order.

    Yields:
      The positions [n] in the new store of a chunk's images, their new unit
      vectors [n, D], and their old ones [n, D_old], both float32.
    """
    for chunk in range(self.new.chunk_count):
      rows = np.arange(self.new.card.count)[self.new.rows_of(chunk)]
      new = self.new.read_chunk(chunk)
      old = self.old.read_rows(self._old_rows[rows])
      kept = new.any(axis=1) & old.any(axis=1)
      if not kept.all():  # Else nothing need be copied.
        rows, new, old = rows[kept], new[kept], old[kept]
      yield rows, _unit(new), _unit(old)

  def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads some pairs.

    Args:
      rows: [M] positions in the new store, of `directed` images.

    Returns:
      New unit vectors [M, D] and old ones [M, D_old], both float32.
    """
    new = self.new.read_rows(rows)
    return _unit(new), _unit(self.old.read_rows(self._old_rows[rows]))

  def held_out(self, seed: int) -> np.ndarray:
    """A tenth of the pairs, at least one, by seed: [N] booleans."""
    mask = np.zeros(self.new.card.count, bool)
    rows = np.flatnonzero(self.directed)
    shuffled = np.random.default_rng(seed).permutation(rows)
    mask[shuffled[: max(len(rows) // 10, 1)]] = True
    return mask


def _match(new: EmbeddingStore, old: EmbeddingStore) -> np.ndarray:
  """The old store's rows [N] of the new store's images."""
  if new.card.ids_digest == old.card.ids_digest:
    return np.arange(new.card.count)
  row_of = {image_id: row for row, image_id in enumerate(old.ids())}
  ids = new.ids()
  missing = [image_id for image_id in ids if image_id not in row_of]
  if missing:
    raise InputError(
      f'{old.path}: it has no embedding of {len(missing)} of the {len(ids)} '
      f'images of {new.path}, such as {missing[0]}. An adapter is fitted to '
      'what both encoders said about the same images: name an old store that '
      'has them all, or a new store of fewer images.'
    )
  return np.array([row_of[image_id] for image_id in ids])


def _unit(rows: np.ndarray) -> np.ndarray:
  return unit_rows(np.asarray(rows, np.float32))
