"""What two encoders said about the same images, side by side."""

from collections.abc import Iterator
import dataclasses
import functools
from typing import Any

import numpy as np

from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError

BACKWARD = 'backward'
FORWARD = 'forward'

# What is looked at of either side, spread over it: enough for 64 principal
# directions, and 80 MiB at 1280 components.
_MAX_SAMPLED = 8192


@dataclasses.dataclass(frozen=True)
class Survey:
  """What one reading of all pairs tells.

  Attributes:
    directed: [N] booleans: which images have two vectors that are not all zero.
    source: [M, D] unit vectors of at most 8192 of these, evenly spread.
    target: [M, D_target] those that they are mapped to.
  """

  directed: np.ndarray
  source: np.ndarray
  target: np.ndarray

  @functools.cached_property
  def distinct(self) -> int:
    """How many of the M pairs differ from all before them."""
    joined = np.concatenate([self.source, self.target], axis=1)
    return len({row.tobytes() for row in joined})


class Pairs:
  """The unit vectors of two stores, matched by the ids of their images.

  The new store's images count, in its order; what else the old one has is left
  out. So are images of which one of the two vectors is all zero: it has no
  direction, and would draw every map towards nothing. Rows are read a chunk at
  a time.

  A map takes *source* vectors to *target* vectors: backward new to old ones,
  forward old to new ones. Where there are side vectors, those of a third
  encoder, a source vector is followed by its image's, each of length 1.

  Attributes:
    new: the new encoder's store, of N images.
    old: the old encoder's, which has these images and maybe more.
    direction: `backward` or `forward`.
    side: the third encoder's, which has them too; None for none.
    width: D, of source vectors, side vectors among them.
    target_width: of target vectors.
  """

  def __init__(
    self,
    new: EmbeddingStore,
    old: EmbeddingStore,
    direction: str = BACKWARD,
    side: EmbeddingStore | None = None,
  ):
    """Matches the rows.

    Args:
      new: a complete store.
      old: a complete store of the same images in any order.
      direction: of the map that is to be fitted.
      side: another of the same images.

    Raises:
      InputError: if the old or the side store lacks images of the new one.
    """
    self.new = new
    self.old = old
    self.direction = direction
    self.side = side
    widths = (new.card.dimension, old.card.dimension)
    self._own_width, self.target_width = self._in_order(*widths)
    self.width = self._own_width + (side.card.dimension if side else 0)
    self._others = [
      (one, match_rows(new, one)) for one in (old, side) if one is not None
    ]

  def __len__(self) -> int:
    """The number of pairs, those with a zero vector left out."""
    return int(self.directed.sum())

  @property
  def few(self) -> bool:
    """Whether there are fewer different pairs than source components."""
    return min(len(self), self._distinct()) < self.width

  def describe_count(self) -> str:
    """Says how many pairs there are, and how many differ if not all do."""
    distinct = self._distinct()
    if distinct >= min(len(self), self.width):
      return f'{len(self)} pairs'
    return f'{len(self)} pairs, of which {distinct} differ,'

  def _distinct(self) -> int:
    """How many pairs differ, as far as the survey's sample tells."""
    survey = self.survey
    if survey.distinct == len(survey.source):
      return len(self)  # Among those that were not sampled may be more.
    return survey.distinct

  @property
  def directed(self) -> np.ndarray:
    """[N] booleans: which images have two vectors that are not all zero."""
    return self.survey.directed

  @functools.cached_property
  def survey(self) -> Survey:
    """Reads all pairs once, and keeps some."""
    count = self.new.card.count
    directed = np.zeros(count, bool)
    # Not the first ones: stores are often in the order of their classes.
    sampled = np.zeros(count, bool)
    sampled[np.linspace(0, count - 1, min(count, _MAX_SAMPLED), dtype=int)] = 1
    sources, targets = [], []
    for rows, source, target in self.chunks():
      directed[rows] = True
      sources.append(source[sampled[rows]])
      targets.append(target[sampled[rows]])
    return Survey(directed, np.concatenate(sources), np.concatenate(targets))

  def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Reads all pairs in order.

    Yields:
      The positions [n] in the new store of a chunk's images, their source unit
      vectors [n, D], and their target ones [n, D_target], both float32.
    """
    for chunk in range(self.new.chunk_count):
      rows = np.arange(self.new.card.count)[self.new.rows_of(chunk)]
      new = self.new.read_chunk(chunk)
      others = self._read_others(rows)
      kept = np.all([one.any(axis=1) for one in (new, *others)], axis=0)
      if not kept.all():  # Else nothing need be copied.
        rows, new, *others = (one[kept] for one in (rows, new, *others))
      yield rows, *self._join(new, *others)

  def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads some pairs.

    Args:
      rows: [M] positions in the new store, of `directed` images.

    Returns:
      Source unit vectors [M, D] and target ones [M, D_target], both float32.
    """
    return self._join(self.new.read_rows(rows), *self._read_others(rows))

  def apart(self, source: np.ndarray) -> list[np.ndarray]:
    """Source vectors [N, D] without side vectors, and these where there are."""
    return np.split(source, [self._own_width] if self.side else [], axis=1)

  def held_out(self, seed: int) -> np.ndarray:
    """A tenth of the pairs, at least one, by seed: [N] booleans."""
    mask = np.zeros(self.new.card.count, bool)
    rows = np.flatnonzero(self.directed)
    shuffled = np.random.default_rng(seed).permutation(rows)
    mask[shuffled[: max(len(rows) // 10, 1)]] = True
    return mask

  def _read_others(self, rows: np.ndarray) -> list[np.ndarray]:
    """Old vectors and, where there are, side ones."""
    return [store.read_rows(matched[rows]) for store, matched in self._others]

  def _join(
    self, new: np.ndarray, old: np.ndarray, *side: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    source, target = self._in_order(_unit(new), _unit(old))
    return join(source, *map(_unit, side)), target

  def _in_order(self, new: Any, old: Any) -> tuple[Any, Any]:
    """Source first."""
    return (old, new) if self.direction == FORWARD else (new, old)


def match_rows(store: EmbeddingStore, other: EmbeddingStore) -> np.ndarray:
  """Finds a store's images in another.

  Args:
    store: of N images.
    other: of the same ones and maybe more, in any order.

  Returns:
    [N] the other's rows.

  Raises:
    InputError: if it lacks some.
  """
  if store.card.ids_digest == other.card.ids_digest:
    return np.arange(store.card.count)
  row_of = {image_id: row for row, image_id in enumerate(other.ids())}
  ids = store.ids()
  missing = [image_id for image_id in ids if image_id not in row_of]
  if missing:
    raise InputError(
      f'{other.path}: it has no embedding of {len(missing)} of the {len(ids)} '
      f'images of {store.path}, such as {missing[0]}. What encoders '
      'said about the same images is brought together: name a store that has '
      f'them all, or one of fewer images than {store.path} has.'
    )
  return np.array([row_of[image_id] for image_id in ids])


def join(source: np.ndarray, *side: np.ndarray) -> np.ndarray:
  """[N, D] source vectors, each followed by its side vector if it has one."""
  return np.concatenate([source, *side], axis=1) if side else source


def _unit(rows: np.ndarray) -> np.ndarray:
  return unit_rows(np.asarray(rows, np.float32))
