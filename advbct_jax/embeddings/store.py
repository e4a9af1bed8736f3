"""Embedding stores: what one encoder said about one list of images.

A store is the seam between encoders. It is a folder:

    card.json    who filled it, with what, and whether it is whole
    ids.txt      the image ids, one a line, in the order of the rows
    labels.txt   where there are labels, the old model's class of each image, an
                 empty line for an image of none
    chunks/      the embeddings, `card.chunk_rows` rows an Orbax checkpoint

A chunk appears under its final name only when it is whole, so a store whose
writer was killed goes on at the first chunk that is missing, and says that it
is incomplete until the last one is there. One process at a time fills a store,
or several that work as one, each with chunks of its own.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import ml_dtypes
import numpy as np

from advbct_jax.atomic_files import write_text
from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.chunk_files import (
  is_checked,
  read_chunk_file,
  stored_digest,
  write_chunk_file,
)
from advbct_jax.errors import InputError, brief_reason
from advbct_jax.line_files import read_lines, write_lines
from advbct_jax.literal_paths import literal_path
from advbct_jax.locks import hold
from advbct_jax.typed_json import read_json, take_fields

# What cards that don't say were computed in.
UNSAID_COMPUTE_DTYPE = 'float32'

# 64 MiB at 256 float32 a row.
DEFAULT_CHUNK_ROWS = 65536

# What cards may differ in that speak of the same vectors.
_OF_ONE_COPY = ('complete', 'chunk_rows', 'file_sha256')

# A digest of all other fields of a card.
_SEAL = 'sha256'

# Wider than any encoder's vectors, and more than any gallery has.
_WIDEST = 2**20
_MOST_ROWS = 2**40
# Bytes of vectors that nobody asks where they are from.
_UNASKED = 2**30


@dataclasses.dataclass(frozen=True)
class Card:
  """The identity card of a store.

  Attributes:
    encoder: what the encoder is called, such as `resnet18`.
    weights: a digest of the encoder's weights.
    dimension: the width D of an embedding.
    preprocessing: what is done to an image before the encoder sees it.
    images: the name of the image set.
    cropped: whether its images were cropped to their boxes; None where whoever
      made the embeddings doesn't say.
    upright: whether its images were turned by their EXIF orientation, which is
      a trait of the images: one encoder serves both kinds.
    ids_digest: a digest of the image ids in their order.
    count: the number of images N.
    compatible_dimension: how many of the first components can be compared with
      the vectors of the old encoder that this one was trained against, where
      that is narrower; 0 where all can.
    labels_digest: a digest of the labels in their order; None without labels.
    dtype: of the embeddings.
    compute_dtype: what the encoder computed in, such as `bfloat16`; None where
      the card doesn't say: an earlier one, or that of vectors made elsewhere.
      They are taken for float32.
    chunk_rows: rows in every chunk but the last.
    complete: whether every chunk is there.
    file_sha256: of the file of vectors that the card lies beside; None for that
      of a store, or of a file of an earlier version.
  """

  encoder: str
  weights: str
  dimension: int
  preprocessing: str
  images: str
  ids_digest: str
  count: int
  cropped: bool | None = None
  upright: bool = False
  compatible_dimension: int = 0
  labels_digest: str | None = None
  dtype: str = 'float32'
  compute_dtype: str | None = None
  chunk_rows: int = DEFAULT_CHUNK_ROWS
  complete: bool = False
  file_sha256: str | None = None

  def identity(self) -> dict[str, Any]:
    """What tells the encoder that filled a store from others."""
    return {
      'encoder': self.encoder,
      'weights': self.weights,
      'dimension': self.dimension,
      'compatible_dimension': self.compatible_dimension,
      'preprocessing': self.preprocessing,
      # The same weights give other vectors in another precision.
      'compute_dtype': self.compute_dtype or UNSAID_COMPUTE_DTYPE,
    }

  def differences(self, other: 'Card') -> list[str]:
    """Says in words where two cards differ, completeness aside.

    >>> card = Card('resnet18', 'ab12', 256, 'squash', 'gldv2-train', 'f0', 9)
    >>> card.differences(dataclasses.replace(card, dimension=128))
    ['dimension: 256 here, 128 there']
    """
    here, there = (
      dataclasses.asdict(card) | card.identity() for card in (self, other)
    )
    return [
      f'{name}: {here[name]} here, {there[name]} there'
      for name in here
      if name not in _OF_ONE_COPY and here[name] != there[name]
    ]


class EmbeddingStore:
  """Embeddings on disk, written and read a chunk at a time.

  >>> import advbct_jax
  >>> vectors = np.eye(2, dtype=np.float32)
  >>> store = advbct_jax.make_store('old', vectors, ['a', 'b'], 'ours')
  >>> store.ids(), store.read_rows(np.array([1])).tolist()
  (['a', 'b'], [[0.0, 1.0]])

  Attributes:
    path: the store's folder.
    card: its identity card.
  """

  def __init__(self, path: pathlib.Path, card: Card):
    """Use `open_store` or `create_store`."""
    self.path = path
    self.card = card

  @property
  def chunk_count(self) -> int:
    """The number of chunks that a complete store has."""
    return -(-self.card.count // self.card.chunk_rows)

  def ids(self) -> list[str]:
    """The image ids in the order of the rows."""
    return read_lines(self.path / 'ids.txt')

  def labels(self) -> list[str] | None:
    """The old model's class of each image, '' for none; None without labels.

    Raises:
      InputError: if they are not those that the card speaks of.
    """
    if self.card.labels_digest is None:
      return None
    path = self.path / 'labels.txt'
    labels = read_lines(path) if path.exists() else []
    if digest_ids(labels) != self.card.labels_digest:
      raise InputError(
        f'{path}: not the labels that card.json speaks of. The store was '
        'changed after it was filled; fill it again.'
      )
    return labels

  def digest(self) -> str:
    """Tells stores of other vectors or ids apart, without reading vectors."""
    digest = hashlib.sha256(self.card.ids_digest.encode())
    for chunk in range(self.chunk_count):
      path = self._chunk_path(chunk)
      # Of a chunk without a digest, the vectors themselves.
      digest.update(
        (stored_digest(path) or '').encode() or self.read_chunk(chunk).tobytes()
      )
    return digest.hexdigest()

  def rows_of(self, chunk: int) -> slice:
    """Which rows a chunk holds."""
    start = chunk * self.card.chunk_rows
    return slice(start, min(start + self.card.chunk_rows, self.card.count))

  def missing_chunks(self) -> list[int]:
    """The chunks that are not written yet."""
    return [
      chunk
      for chunk in range(self.chunk_count)
      if not self._chunk_path(chunk).exists()
    ]

  @contextlib.contextmanager
  def filling(self) -> Iterator[None]:
    """Keeps other processes from filling the store meanwhile.

    What is missing is to be asked inside, since somebody may have filled the
    store since it was opened:

        with store.filling():
          for chunk in store.missing_chunks():
            store.write_chunk(chunk, …)
          return store.finish()

    Raises:
      InputError: if another process fills it, saying which one.
    """
    with hold(self.path, 'fills the store'):
      yield

  def write_chunk(self, chunk: int, embeddings: np.ndarray) -> None:
    """Writes one chunk and reads it back; it appears whole or not at all.

    The store must be held (`filling`), unless nobody else knows of it.

    Args:
      chunk: which one.
      embeddings: [rows of that chunk, D].

    Raises:
      InputError: if an embedding is not finite, or if what was written cannot
        be read back.
      ValueError: if the shape is not that of the chunk.
    """
    if self._chunk_path(chunk).exists():
      return  # Written before whoever fills the store was killed.
    rows = self.rows_of(chunk)
    wanted = (rows.stop - rows.start, self.card.dimension)
    if embeddings.shape != wanted:
      raise ValueError(f'chunk {chunk}: {embeddings.shape}, wanted {wanted}')
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
      row = rows.start + int(np.argmin(finite))
      raise InputError(
        f'{self.path}: the embedding of image {self.ids()[row]} (row {row}) '
        'is not finite. The encoder has diverged or its weights are damaged; '
        'nothing of this chunk was stored.'
      )
    write_chunk_file(
      self._chunk_path(chunk), embeddings.astype(self.card.dtype, copy=False)
    )

  def finish(self) -> 'EmbeddingStore':
    """Marks the store complete.

    Raises:
      InputError: if a chunk is missing, or one that a killed writer has left
        cannot be read.
    """
    if missing := self.missing_chunks():
      raise InputError(
        f'{self.path}: {len(missing)} of {self.chunk_count} chunks are '
        'missing; run the command that fills the store again.'
      )
    for chunk in range(self.chunk_count):
      if not is_checked(self._chunk_path(chunk)):
        self.read_chunk(chunk)
    card = dataclasses.replace(self.card, complete=True)
    write_card(self.path / 'card.json', card)
    return EmbeddingStore(self.path, card)

  def chunks(self) -> Iterator[np.ndarray]:
    """Reads the embeddings in order, one [≤ chunk rows, D] array at a time."""
    for chunk in range(self.chunk_count):
      yield self.read_chunk(chunk)

  def read(self) -> np.ndarray:
    """Reads all embeddings into one [N, D] array."""
    embeddings = np.empty(
      (self.card.count, self.card.dimension), self.card.dtype
    )
    for chunk in range(self.chunk_count):
      embeddings[self.rows_of(chunk)] = self.read_chunk(chunk)
    return embeddings

  def read_rows(self, rows: np.ndarray) -> np.ndarray:
    """Reads some rows, whose chunks are in memory one at a time.

    Args:
      rows: [M] positions, in any order.

    Returns:
      [M, D] embeddings.
    """
    embeddings = np.empty((len(rows), self.card.dimension), self.card.dtype)
    chunks, within = np.divmod(rows, self.card.chunk_rows)
    for chunk in np.unique(chunks):
      wanted = chunks == chunk
      embeddings[wanted] = self.read_chunk(int(chunk))[within[wanted]]
    return embeddings

  def read_chunk(self, chunk: int) -> np.ndarray:
    """Reads one chunk that is written.

    Args:
      chunk: which one.

    Returns:
      [rows of that chunk, D].

    Raises:
      InputError: if it is missing, damaged or changed.
    """
    rows = self.rows_of(chunk)
    return read_chunk_file(
      self._chunk_path(chunk),
      (rows.stop - rows.start, self.card.dimension),
      self.card.dtype,
    )

  def _chunk_path(self, chunk: int) -> pathlib.Path:
    return self.path.absolute() / 'chunks' / f'{chunk:06d}'


def create_store(
  path: pathlib.Path | str,
  card: Card,
  ids: Sequence[str],
  labels: Sequence[str] | None = None,
) -> EmbeddingStore:
  """Makes an empty store, or opens the unfinished one that is there.

  Args:
    path: the store's folder.
    card: its identity card; `ids_digest`, `count` and `labels_digest` must be
      those of `ids` and `labels`.
    ids: [N] image ids, without line breaks.
    labels: [N] the old model's classes, '' for none, without line breaks.

  Returns:
    A store to write the missing chunks of.

  Raises:
    InputError: if a store with another card is already there, another process
      is making it, an id or a label is no line, or the folder cannot be made.
  """
  path = pathlib.Path(path)
  if is_store(path):
    return _reopen(path, card)
  # Whatever a card of another store, taken over in part, says.
  card = dataclasses.replace(card, complete=False)
  literal_path(path)  # Refuses a name that no chunk could be read from.
  with hold(path, 'makes the store'):
    if is_store(path):  # Another process was faster.
      return _reopen(path, card)
    # The card comes last: a folder with a card has everything it speaks of.
    write_lines(path / 'ids.txt', ids)
    if labels is not None:
      write_lines(path / 'labels.txt', labels)
    write_card(path / 'card.json', card)
  return EmbeddingStore(path, card)


def open_store(path: pathlib.Path | str) -> EmbeddingStore:
  """Opens a complete store.

  >>> import advbct_jax
  >>> store = advbct_jax.open_store('runs/demo/old/embeddings/tiny-train')
  >>> store.card.encoder, store.card.images, store.read().shape
  ('tiny', 'tiny-train', (32, 8))

  Args:
    path: the store's folder.

  Raises:
    InputError: if there is no store, or if it is incomplete or damaged.
  """
  path = pathlib.Path(path)
  if not (path / 'card.json').exists():
    raise InputError(
      f'{path}: no embedding store here (card.json is missing). Wanted: the '
      'folder that extraction made, such as WORKDIR/embeddings/gldv2-train.'
    )
  card = read_card(path / 'card.json')
  store = EmbeddingStore(path, card)
  ids = store.ids()
  if len(ids) != card.count or digest_ids(ids) != card.ids_digest:
    raise InputError(
      f'{path}: ids.txt is not the list that card.json speaks of. The store '
      'was changed after it was filled; fill it again.'
    )
  missing = store.missing_chunks()
  if missing or not card.complete:
    raise InputError(
      f'{path}: the store is incomplete ({len(missing)} of '
      f'{store.chunk_count} chunks are missing). Run the command that fills it '
      'again; it goes on where it stopped.'
    )
  _require_plausible(store)
  return store


def _require_plausible(store: EmbeddingStore) -> None:
  """Refuses a card of more than its chunks can hold, before there is room."""
  card = store.card
  claimed = card.count * card.dimension * np.dtype(card.dtype).itemsize
  if claimed <= _UNASKED:
    return
  chunks = (store.path / 'chunks').rglob('*')
  stored = sum(file.stat().st_size for file in chunks if file.is_file())
  # Vectors can hardly be compressed.
  if claimed > 100 * stored:
    raise InputError(
      f'{store.path}: card.json speaks of {card.count} vectors of width '
      f'{card.dimension}, {claimed} bytes, but the chunks have {stored}. One '
      'of the two was changed; fill the store again.'
    )


def is_store(path: pathlib.Path | str) -> bool:
  """Whether a folder is an embedding store, complete or not."""
  return (pathlib.Path(path) / 'card.json').exists()


def write_store(
  path: pathlib.Path | str,
  card: Card,
  ids: Sequence[str],
  embeddings: np.ndarray,
  labels: Sequence[str] | None = None,
) -> EmbeddingStore:
  """Fills a store from vectors that are already in memory.

  Args:
    path: the store's folder.
    card: its identity card.
    ids: [N] image ids.
    embeddings: [N, D].
    labels: [N] the old model's classes, '' for none.

  Returns:
    The complete store.
  """
  store = create_store(path, card, ids, labels)
  if store.card.complete:
    return store
  with store.filling():
    for chunk in store.missing_chunks():
      store.write_chunk(chunk, embeddings[store.rows_of(chunk)])
    return store.finish()


def _reopen(path: pathlib.Path, card: Card) -> EmbeddingStore:
  """Opens a store to go on with, complete or not."""
  there = read_card(path / 'card.json')
  _require_equal(path, card, there)
  # A chunk that was deleted since, because it was damaged, is made anew.
  whole = there.complete and not EmbeddingStore(path, there).missing_chunks()
  return EmbeddingStore(path, dataclasses.replace(there, complete=whole))


def _require_equal(path: pathlib.Path, wanted: Card, there: Card) -> None:
  if differences := wanted.differences(there):
    raise InputError(
      f'{path}: this store does not belong here. What is wanted here and what '
      'the store (there) has:\n  '
      + '\n  '.join(differences)
      + '\nName another store, or move this one away to have it made anew.'
    )


def read_card(path: pathlib.Path) -> Card:
  """Reads an identity card, of this or an earlier version.

  Args:
    path: of the JSON file.

  Raises:
    InputError: if it cannot be read, lacks a field, has one that is unknown, or
      one of a value that cannot be, or if it was changed since.
  """
  try:
    described = read_json(path)
    # Those of earlier versions have no seal.
    seal = described.pop(_SEAL, None) if isinstance(described, dict) else None
    if seal is not None and seal != _seal(described):
      raise ValueError(
        'it was changed after it was written; whoever did that on purpose '
        f'takes the line {_SEAL} out'
      )
    card = take_fields(Card, described)
    if (
      not 1 <= card.dimension <= _WIDEST
      or not 1 <= card.chunk_rows <= _MOST_ROWS
      or not 0 <= card.count <= _MOST_ROWS
    ):
      raise ValueError(
        f'dimension {card.dimension}, chunk_rows {card.chunk_rows} and count '
        f'{card.count} cannot be'
      )
    if not 0 <= card.compatible_dimension <= card.dimension:
      raise ValueError(
        f'compatible_dimension is {card.compatible_dimension} of '
        f'{card.dimension}'
      )
    dtype = np.dtype(card.dtype)
    plain = dtype.kind in 'fiu' or dtype == ml_dtypes.bfloat16
    if not plain or dtype.itemsize > 8:
      raise ValueError(f'dtype is {dtype}, wanted floats of 64 bits at most')
  except (OSError, ValueError, TypeError) as error:
    raise InputError(
      f'{path}: not the card of an embedding store ({brief_reason(error)}). It '
      'is damaged, or of another version than this one; fill the store again, '
      'or take it from where it comes from.'
    ) from error
  return card


def write_card(path: pathlib.Path, card: Card) -> None:
  """Writes an identity card, which a kill cannot leave half written."""
  described = dataclasses.asdict(card)
  if card.file_sha256 is None:
    del described['file_sha256']
  described[_SEAL] = _seal(described)
  write_text(path, json.dumps(described, indent=2) + '\n')


def _seal(described: dict[str, Any]) -> str:
  return hashlib.sha256(
    json.dumps(described, sort_keys=True).encode()
  ).hexdigest()
