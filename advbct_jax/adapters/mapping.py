"""Stores of mapped vectors."""

import dataclasses
import hashlib
import pathlib

import tqdm

from advbct_jax.adapters.adapter import Adapter
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
  if differences := [
    f'{name}: {found[name]} there, wanted {wanted[name]}'
    for name in wanted
    if found[name] != wanted[name]
  ]:
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


def adapt_store(
  adapter: Adapter, store: EmbeddingStore, path: pathlib.Path | str
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

  Returns:
    The complete store; it has the ids and labels of the other.

  Raises:
    InputError: if the store is of another encoder, if its vectors look like
      those that the adapter maps to, or if another store is at the path.

  Warns:
    OutOfDomainWarning: if its vectors are unlike those that the adapter was
      fitted to.
  """
  card = adapted_card(adapter, store.card)
  first = None
  # What is there already was found fit when it was begun.
  if store.chunk_count and not is_store(path):
    first = store.read_chunk(0)
    require_source(adapter, store, first)
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
      rows = store.read_chunk(chunk) if chunk or first is None else first
      mapped.write_chunk(chunk, adapter.apply(rows))
    return mapped.finish()


def adapted(source: Source, adapter: Adapter, folder: pathlib.Path) -> Source:
  """Maps what another source gives.

  Args:
    source: of the encoder that the adapter was fitted for.
    adapter: maps.
    folder: gets a store of mapped vectors for each image set.
  """

  def map_source(image_set: ImageSet) -> EmbeddingStore:
    return adapt_store(
      adapter, source(image_set), folder / store_name(image_set)
    )

  return map_source
