"""Stores of mapped vectors."""

import dataclasses
import hashlib
import pathlib
from typing import Any

import numpy as np
import tqdm

from advbct_jax.adapters.adapter import Adapter, AdapterCard, require_side
from advbct_jax.adapters.pairs import match_rows
from advbct_jax.adapters.plausibility import require_source
from advbct_jax.data.images import ImageSet
from advbct_jax.embeddings.sources import Source, store_name
from advbct_jax.embeddings.store import (
  Card,
  EmbeddingStore,
  create_store,
  is_store,
)
from advbct_jax.errors import InputError


def adapted_card(adapter: Adapter, card: Card) -> Card:
  """The card of a store once it is mapped.

  Args:
    adapter: maps.
    card: of a store of the encoder that the adapter was fitted for.

  Raises:
    InputError: if it is of another encoder; the message says what differs.
  """
  found, wanted = card.identity(), adapter.card.source
  if differences := _differences(card, wanted):
    if found == adapter.card.target:
      raise InputError(
        f'adapter: it is {adapter.card.direction}, and maps to the vectors of '
        f'{found["encoder"]} that {card.images} has, not from them. Name a '
        f'store of {wanted["encoder"]}, or fit an adapter of the other '
        'direction.'
      )
    raise InputError(
      f'adapter: it was not fitted for the vectors of {card.images}:\n  '
      + '\n  '.join(differences)
      + '\nName a store of the encoder that it was fitted for, or fit an '
      'adapter for this one.'
    )
  combined = f'{card.weights}\n{adapter.digest}\n'
  return dataclasses.replace(
    card,
    encoder=f'{card.encoder}+{adapter.card.kind}',
    weights=hashlib.sha256(combined.encode()).hexdigest(),
    dimension=adapter.dimension,
    compatible_dimension=adapter.compatible_dimension,
    dtype='float32',
    complete=False,
  )


def _require_side_card(card: AdapterCard, found: Card | None) -> None:
  """Refuses a store of side vectors that an adapter was not fitted with."""
  require_side(
    card, None if found is None else f'side vectors of {found.images}'
  )
  if found is None or card.side is None:
    return
  if differences := _differences(found, card.side):
    raise InputError(
      'adapter: it was fitted with other side vectors than those of '
      f'{found.images}:\n  '
      + '\n  '.join(differences)
      + '\nName a store of the encoder that it was fitted with.'
    )


def _differences(card: Card, wanted: dict[str, Any]) -> list[str]:
  """Where a store's encoder is not the wanted one."""
  found = card.identity()
  return [
    f'{name}: {found[name]} there, wanted {wanted[name]}'
    for name in wanted
    if found[name] != wanted[name]
  ]


def adapt_store(
  adapter: Adapter,
  store: EmbeddingStore,
  path: pathlib.Path | str,
  side_store: EmbeddingStore | None = None,
) -> EmbeddingStore:
  """Maps a store, a chunk at a time.

  >>> import advbct_jax
  >>> import numpy
  >>> vectors = numpy.random.default_rng(0).normal(size=(20, 3))
  >>> ids = [f'image{number}' for number in range(20)]
  >>> new = advbct_jax.make_store('new', vectors, ids, 'ours', version='2')
  >>> old = advbct_jax.make_store('old', -vectors, ids, 'ours', version='1')
  >>> adapter = advbct_jax.fit_adapter('procrustes', new, old)
  >>> mapped = advbct_jax.adapt_store(adapter, new, 'mapped')
  >>> mapped.card.encoder, mapped.card.count
  ('ours+procrustes', 20)

  A killed call goes on where it stopped; a complete store is only opened.

  Args:
    adapter: maps.
    store: a complete store of the encoder that it was fitted for.
    path: of the store of mapped vectors.
    side_store: side vectors of the same images and maybe others, in any order,
      where it was fitted with these.

  Returns:
    The complete store; it has the ids and labels of the other.

  Raises:
    InputError: if a store is of another encoder, if the vectors look like
      those that the adapter maps to, if side vectors are missing or not wanted,
      or if another store is at the path.

  Warns:
    OutOfDomainWarning: if its vectors are unlike those that the adapter was
      fitted to.
  """
  card = adapted_card(adapter, store.card)
  _require_side_card(adapter.card, side_store.card if side_store else None)
  sides = [(side_store, match_rows(store, side_store))] if side_store else []

  def read(chunk: int) -> list[np.ndarray]:
    """The vectors of a chunk, and the side vectors of its images."""
    rows = store.rows_of(chunk)
    return [
      store.read_chunk(chunk),
      *(side.read_rows(matched[rows]) for side, matched in sides),
    ]

  first = None
  # What is there already was found fit when it was begun.
  if store.chunk_count and not is_store(path):
    first = read(0)
    require_source(adapter, store, *first)
  mapped = create_store(path, card, store.ids(), store.labels())
  if mapped.card.complete:
    return mapped
  # An unfinished store keeps the size of chunk that it was begun with.
  if mapped.card.chunk_rows != store.card.chunk_rows:
    raise InputError(
      f'{path}: begun with {mapped.card.chunk_rows} rows a chunk, but '
      f'{store.path} has {store.card.chunk_rows}. Remove it to have it made '
      'anew.'
    )
  with mapped.filling():
    for chunk in tqdm.tqdm(
      mapped.missing_chunks(), desc='mapping', unit=' chunks', disable=None
    ):
      # What was looked at need not be read again.
      vectors = read(chunk) if chunk or first is None else first
      mapped.write_chunk(chunk, adapter.apply(*vectors))
    return mapped.finish()


def adapted(
  source: Source,
  adapter: Adapter,
  folder: pathlib.Path,
  side: Source | None = None,
) -> Source:
  """Maps what another source gives.

  Args:
    source: of the encoder that the adapter was fitted for.
    adapter: maps.
    folder: gets a store of mapped vectors for each image set.
    side: of the encoder of side vectors, where it was fitted with these.
  """

  def map_source(image_set: ImageSet) -> EmbeddingStore:
    return adapt_store(
      adapter,
      source(image_set),
      folder / store_name(image_set),
      side(image_set) if side else None,
    )

  return map_source
