"""Stored vectors as what a head is trained on, in the place of images.

A set may be larger than memory: what takes more than `memory_mib` is copied out
of its store, a chunk at a time, into one flat file (`WORKDIR/features/*.npy`)
in the order of the set, and mapped. The system then reads the pages that a
batch asks for, and drops them where memory is short.
"""

from collections.abc import Iterator
from concurrent import futures
import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import re

import numpy as np

from advbct_jax import processes
from advbct_jax.data.images import ImageSet
from advbct_jax.data.pipeline import Batch
from advbct_jax.embeddings.named_stores import (
  find_rows,
  open_named_store,
  store_name,
)
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.locks import hold_name

# What is read into memory rather than mapped, unless somebody says otherwise.
DEFAULT_MEMORY_MIB = 2048


@dataclasses.dataclass(frozen=True)
class StoredFeatures:
  """What a frozen encoder has said, and a head stands on.

  Attributes:
    path: a store, or a folder of stores.
    encoder: what the frozen encoder is called in their cards.
    weights: its version there.
    dimension: the width E of its vectors.
    folder: where sets that are too large for memory are laid out to be mapped.
  """

  path: pathlib.Path
  encoder: str
  weights: str
  dimension: int
  folder: pathlib.Path

  def open_store(self, image_set: ImageSet) -> EmbeddingStore:
    """Opens the store that has a set.

    Raises:
      InputError: if there is none, or it is of another encoder: a head maps
        vectors of any space, and nothing would show that they are of a wrong
        one.
    """
    store = open_named_store(self.path, store_name(image_set), image_set.name)
    card = store.card
    there = card.encoder, card.weights, card.dimension
    here = self.encoder, self.weights, self.dimension
    if there != here:
      raise InputError(
        f'{store.path}: features of {_describe(*there)}, but the head is for '
        f'those of {_describe(*here)}. Name the stores of the latter.'
      )
    return store

  def loader(
    self, image_set: ImageSet, memory_mib: int = DEFAULT_MEMORY_MIB
  ) -> 'FeatureRows':
    """Makes a loader of a set's features.

    Args:
      image_set: N images or other things.
      memory_mib: how much memory, in MiB, features may take; a set that takes
        more is mapped.

    Raises:
      InputError: if there are no features of some of them.
    """
    store = self.open_store(image_set)
    return FeatureRows(
      image_set, self, store, find_rows(store, image_set), memory_mib
    )

  def describe(self) -> str:
    """Which features they are, as cards have it."""
    return f'features of {self.encoder} ({self.weights})'


def find_features(
  path: pathlib.Path, image_set: ImageSet, folder: pathlib.Path
) -> StoredFeatures:
  """Finds out which encoder's vectors lie at a path.

  Args:
    path: a store, or a folder of stores.
    image_set: that there is a store of.
    folder: where large sets are laid out.

  Raises:
    InputError: if there is no such store.
  """
  card = open_named_store(path, store_name(image_set), image_set.name).card
  return StoredFeatures(
    path, card.encoder, card.weights, card.dimension, folder
  )


@dataclasses.dataclass(frozen=True)
class FeatureRows:
  """Gives the features in given rows of a set.

  Attributes:
    image_set: N images or other things.
    features: whose vectors they are.
    store: has them.
    rows: [N] their positions in it.
    memory_mib: what they may take in memory.
  """

  image_set: ImageSet
  features: StoredFeatures
  store: EmbeddingStore
  rows: np.ndarray
  memory_mib: int = DEFAULT_MEMORY_MIB

  # Rows are copied out of an array, which threads would only slow down.
  decodes = False

  @property
  def shape(self) -> tuple[int, ...]:
    """[E] of one vector."""
    return (self.features.dimension,)

  def open(self) -> None:
    """Reads or maps the features, which threads must not do side by side."""
    _ = self.vectors

  @functools.cached_property
  def vectors(self) -> np.ndarray:
    """[N, E] float32, in memory or mapped."""
    return read_or_map(
      self.store, self.rows, self.features.folder, self.memory_mib
    )

  def digest(self) -> str:
    """Tells features apart, without reading them."""
    digest = hashlib.sha256(self.store.digest().encode())
    digest.update(self.rows.astype(np.int64).data)
    return digest.hexdigest()

  def __call__(
    self, rows: np.ndarray, pool: futures.Executor | None = None
  ) -> Batch:
    """Copies a batch.

    Args:
      rows: [B] of the set.
      pool: not needed.

    Returns:
      {image [B, E] float32, row [B] int32}.
    """
    del pool
    return {'image': self.vectors[rows], 'row': rows.astype(np.int32)}


def read_or_map(
  store: EmbeddingStore,
  rows: np.ndarray,
  folder: pathlib.Path,
  memory_mib: int,
) -> np.ndarray:
  """Reads rows of a store into memory, or maps a file of them.

  Args:
    store: complete.
    rows: [N] positions in it.
    folder: where the file lies; one that is there already is taken.
    memory_mib: what takes more is mapped.

  Returns:
    [N, D] in the order of `rows`, not to be written to.

  Raises:
    InputError: if the file cannot be written.
  """
  card = store.card
  row_bytes = card.dimension * np.dtype(card.dtype).itemsize
  if len(rows) * row_bytes <= memory_mib * 2**20:
    return store.read_rows(rows)
  digest = hashlib.sha256(store.digest().encode())
  digest.update(rows.astype(np.int64).data)
  # Whoever made the store has said what its images are called.
  name = re.sub(r'[^\w.-]+', '_', card.images)[:80]
  path = folder / f'{name}-{digest.hexdigest()[:16]}.npy'
  with _writing(path), hold_name(path, 'lays vectors out'):
    if not path.exists():
      _lay_out(store, rows, path)
  return np.asarray(np.load(path, mmap_mode='r'))


def _lay_out(
  store: EmbeddingStore, rows: np.ndarray, path: pathlib.Path
) -> None:
  """Writes rows of a store as one array, with a chunk in memory at a time."""
  # Processes that work as one each lay it out, and any of these files will do.
  unfinished = path.with_name(f'{path.name}.{processes.index()}.unfinished')
  out = np.lib.format.open_memmap(
    unfinished,
    'w+',
    dtype=np.dtype(store.card.dtype),
    shape=(len(rows), store.card.dimension),
  )
  chunks, within = np.divmod(rows, store.card.chunk_rows)
  for chunk in np.unique(chunks):
    wanted = chunks == chunk
    out[wanted] = store.read_chunk(int(chunk))[within[wanted]]
  out.flush()
  os.replace(unfinished, path)


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield
  except OSError as error:
    raise InputError(
      f'{path}: vectors that memory is too small for cannot be laid out there '
      f'({error}). Make room, or raise config.data.memory_mib.'
    ) from error


def _describe(encoder: str, weights: str, dimension: int) -> str:
  return f'{encoder} ({weights}), {dimension} wide'
