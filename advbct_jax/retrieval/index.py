"""FAISS indexes of a gallery, which say what filled them.

An index NAME is three files in a folder:

    NAME.faiss      inner-product search over L2-normalised vectors
    NAME.ids.txt    image ids, one a line; line i is FAISS's id i
    NAME.json       the identity card of the embedding store that filled it

Those that are read here, to judge encoders by, search exactly. A service may
have others (`service_index.py`), and FAISS's ids may there be its own integers.

The vectors of different encoders don't compare even where their widths are
equal, so an index is read against the card that is wanted.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import os
import pathlib
from typing import cast

import faiss
import numpy as np
import tqdm

from advbct_jax.checksums import digest_file
from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.store import Card, read_card, write_card
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError, brief_reason
from advbct_jax.line_files import read_lines, write_lines
from advbct_jax.locks import hold_name
from advbct_jax.retrieval.index_reading import read_faiss

# Positions in the gallery under a flat inner-product index.
GalleryIndex = faiss.IndexIDMap2

# What one block of queries may bring back: 2^24 scores and int64 positions are
# 192 MiB.
_BLOCK_RESULTS = 2**24
_BLOCK_QUERIES = 1024


def build_index(
  dimension: int, count: int, chunks: Iterable[np.ndarray]
) -> GalleryIndex:
  """Builds an exact index for cosine similarity.

  Args:
    dimension: the width D.
    count: the number of rows N, so that memory is taken once.
    chunks: [≤ N, D] embeddings in gallery order, N rows in all.

  Returns:
    A flat inner-product index of the normalised rows; ids are gallery
    positions.
  """
  flat = faiss.IndexFlatIP(dimension)
  # The codes keep their capacity. Grown chunk by chunk, they would be copied
  # each time they double, and for a moment be there twice.
  flat.codes.resize(count * dimension * np.dtype(np.float32).itemsize)
  flat.codes.clear()
  index = GalleryIndex(flat)
  for chunk in chunks:
    ids = np.arange(index.ntotal, index.ntotal + len(chunk))
    index.add_with_ids(unit_rows(chunk), ids)
  return index


def replace_rows(
  index: GalleryIndex, positions: np.ndarray, embeddings: np.ndarray
) -> None:
  """Replaces some vectors of an index in memory, as a backfill would.

  Args:
    index: from `build_index` or `read_index`.
    positions: [M] gallery positions.
    embeddings: [M, D] what they now hold.
  """
  flat = cast(faiss.IndexFlatIP, faiss.downcast_index(index.index))
  rows = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
  rows.reshape(flat.ntotal, flat.d)[positions] = unit_rows(embeddings)


def search(
  index: GalleryIndex, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the most similar gallery images of each query.

  Args:
    index: N gallery images.
    queries: [Q, D] embeddings, of any length.
    k: how many to find, at most N.

  Returns:
    [Q, k] float32 cosine similarities, descending, and [Q, k] int32 gallery
    positions.

  Raises:
    InputError: if the widths differ, k exceeds N, or vectors are not finite.
  """
  if queries.shape[1] != index.d or k > index.ntotal:
    raise InputError(
      f'search: {k} matches of queries of width {queries.shape[1]} were asked '
      f'from an index of {index.ntotal} vectors of width {index.d}. Queries '
      "and gallery must be of comparable encoders, and k at most the gallery's "
      'size.'
    )
  scores = np.empty((len(queries), k), np.float32)
  ranks = np.empty((len(queries), k), np.int32)
  block = min(max(_BLOCK_RESULTS // k, 1), _BLOCK_QUERIES)
  with tqdm.tqdm(
    desc='searching',
    total=len(queries),
    unit=' queries',
    disable=len(queries) <= block,
  ) as progress:
    for start in range(0, len(queries), block):
      rows = unit_rows(queries[start : start + block])
      scores[start : start + block], ranks[start : start + block] = (
        index.search(rows, k)
      )
      progress.update(len(rows))
  # FAISS fills the places of what compares with nothing with −1.
  if (ranks < 0).any():
    query = int((ranks < 0).any(axis=1).argmax())
    raise InputError(
      f'search: query {query} or a gallery vector is not finite (NaN or '
      'infinite). Its encoder has diverged; fill its store again.'
    )
  return scores, ranks


def write_index(
  folder: pathlib.Path,
  name: str,
  index: GalleryIndex,
  ids: Sequence[str],
  card: Card,
) -> None:
  """Writes an index with its ids and card; the card appears last.

  Args:
    folder: where to, made if it is not there.
    name: of the three files.
    index: N vectors, searched exactly or not.
    ids: [N] image ids.
    card: the card of the store that filled it.

  Raises:
    InputError: if another process writes the same index, or the file that was
      written cannot be read back.
  """
  with hold_name(folder / f'{name}.faiss', 'writes the index'):
    # Without a card there is no index: a killed rewrite must not leave the new
    # vectors under the old card.
    (folder / f'{name}.json').unlink(missing_ok=True)
    vectors = folder / f'{name}.faiss.unfinished'
    try:
      faiss.write_index(index, str(vectors))
      _require_readable(vectors, index.ntotal)
      os.replace(vectors, folder / f'{name}.faiss')
    finally:
      vectors.unlink(missing_ok=True)
    write_lines(folder / f'{name}.ids.txt', ids)
    digest = digest_file(folder / f'{name}.faiss')
    write_card(
      folder / f'{name}.json', dataclasses.replace(card, file_sha256=digest)
    )


def read_index(
  folder: pathlib.Path, name: str, expected: Card | None = None
) -> tuple[GalleryIndex, list[str], Card]:
  """Reads an exact index and refuses one that does not belong here.

  Args:
    folder: where it lies.
    name: of its three files.
    expected: the card that it must have, where that is known.

  Returns:
    The index of N vectors, their [N] image ids, and its card.

  Raises:
    InputError: if a file is missing or damaged, if another encoder or other
      images filled the index, or if it was made for a service: not exact, or
      with ids that are no gallery positions; the message says what differs.
  """
  card = _read_card(folder / f'{name}.json')
  if expected and (differences := expected.differences(card)):
    raise InputError(
      f'{folder / name}.faiss: this index does not belong here. What is wanted '
      'here and what the index (there) holds:\n  '
      + '\n  '.join(differences)
      + '\nName another index or build this one again.'
    )
  try:
    ids = read_lines(folder / f'{name}.ids.txt')
    index = read_faiss(folder / f'{name}.faiss')
  except (OSError, RuntimeError) as error:
    raise InputError(
      f'{folder / name}: cannot read .faiss and .ids.txt '
      f'({brief_reason(error)}). Build the index again.'
    ) from error
  if digest_ids(ids) != card.ids_digest:
    raise InputError(
      f'{folder / name}.ids.txt: not the images that {name}.json speaks of. '
      'Build the index again.'
    )
  if not isinstance(index, GalleryIndex):
    raise InputError(
      f'{folder / name}.faiss: a {type(index).__name__}, wanted an IndexIDMap2 '
      'over normalised vectors. Build the index again.'
    )
  inner = faiss.downcast_index(index.index)
  if not isinstance(inner, faiss.IndexFlat) or (
    inner.metric_type != faiss.METRIC_INNER_PRODUCT
  ):
    raise InputError(
      f'{folder / name}.faiss: a {type(inner).__name__}, wanted an exact index '
      'of inner products (IndexFlatIP), without which figures would speak of '
      'the index rather than of the encoder. Build the index again.'
    )
  if (index.ntotal, index.d) != (card.count, card.dimension):
    raise InputError(
      f'{folder / name}.faiss: {index.ntotal} vectors of width {index.d}, but '
      f'{name}.json speaks of {card.count} of width {card.dimension}. Build '
      'the index again.'
    )
  numbers = faiss.vector_to_array(index.id_map)
  if not np.array_equal(numbers, np.arange(len(ids))):
    raise InputError(
      f'{folder / name}.faiss: its ids are not the positions 0 to '
      f'{len(ids) - 1} in the gallery; it was made for a service, with '
      '--integer_ids. Build the index again.'
    )
  _require_unchanged(folder / f'{name}.faiss', card.file_sha256)
  return index, ids, card


def _require_readable(path: pathlib.Path, count: int) -> None:
  """Refuses to take a file for an index that FAISS doesn't read back."""
  # Mapped, so that an index as large as memory needn't be there twice.
  read = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
  if read.ntotal != count:
    raise InputError(
      f'{path}: {count} vectors were written, {read.ntotal} are read back. '
      'The disk or its file system is damaged; name another place.'
    )


def _require_unchanged(path: pathlib.Path, wanted: str | None) -> None:
  """Refuses a damaged file: FAISS has no checksums, and reads any vectors."""
  if wanted and (found := digest_file(path)) != wanted:
    raise InputError(
      f'{path}: its SHA-256 is {found}, but its card says {wanted}: it was '
      'changed or damaged. Build the index again.'
    )


def _read_card(path: pathlib.Path) -> Card:
  if not path.is_file():
    raise InputError(
      f'{path}: the card of this index is missing. Without it nobody can say '
      'which encoder filled the index; build it again.'
    )
  return read_card(path)
