"""Fits an adapter to what two encoders said about the same images."""

from typing import Any

import numpy as np

from advbct_jax.adapters.adapter import Adapter, AdapterCard
from advbct_jax.adapters.kinds import find_kind
from advbct_jax.adapters.pairs import Pairs
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError

# So that the tenth that is held out has an image.
_FEWEST_IMAGES = 10


def fit_adapter(
  kind: str,
  new_store: EmbeddingStore,
  old_store: EmbeddingStore,
  *,
  seed: int = 0,
  **options: Any,
) -> Adapter:
  """Fits a map of new vectors to old ones.

  >>> import advbct_jax
  >>> vectors = np.random.default_rng(0).normal(size=(20, 3))
  >>> ids = [f'image{number}' for number in range(20)]
  >>> new = advbct_jax.make_store('new', vectors, ids, 'ours', version='2')
  >>> old = advbct_jax.make_store('old', -vectors, ids, 'ours', version='1')
  >>> adapter = advbct_jax.fit_adapter('ridge', new, old, penalty=1e-6)
  >>> adapter.apply(vectors[:1]) @ vectors[0] < 0
  array([ True])

  Args:
    kind: a key of `ADAPTERS`.
    new_store: the new encoder's vectors [N, D] of N images.
    old_store: the old encoder's vectors, of width D_old, of the same images and
      maybe others, in any order.
    seed: of whatever is random.
    **options: of the kind; see its `fit`.

  Returns:
    The adapter.

  Raises:
    InputError: if there is no such kind or option, if the old store lacks
      images, if the widths don't fit the kind, or if there are fewer images
      than new components, those with a zero vector left out.
  """
  card = plan_adapter(kind, new_store, old_store, seed=seed, **options)
  pairs = Pairs(new_store, old_store)
  _require_enough(new_store, len(pairs), 'images whose vectors are not zero')
  return Adapter(card, find_kind(kind).fit(pairs, **card.options))


def plan_adapter(
  kind: str,
  new_store: EmbeddingStore,
  old_store: EmbeddingStore,
  *,
  seed: int = 0,
  **options: Any,
) -> AdapterCard:
  """Says what `fit_adapter` would fit; takes and raises the same."""
  known = find_kind(kind).options
  if unknown := sorted(options.keys() - known.keys()):
    raise InputError(
      f'adapter: {kind} was told {", ".join(unknown)}; wanted: '
      f'{", ".join(["seed", *known])}.'
    )
  _require_enough(new_store, new_store.card.count, 'images')
  new, old = new_store.card.identity(), old_store.card.identity()
  if new == old:
    raise InputError(
      f'{new_store.path} and {old_store.path} are of one encoder '
      f'({new["encoder"]}, {new["weights"]}); wanted: stores of two.'
    )
  return AdapterCard(
    kind=kind,
    one_space=find_kind(kind).one_space,
    new=new,
    old=old,
    images={
      'name': new_store.card.images,
      'ids_digest': new_store.card.ids_digest,
      'count': new_store.card.count,
    },
    options={'seed': seed, **known, **options},
  )


def mean_cosine(
  adapter: Adapter, new_store: EmbeddingStore, old_store: EmbeddingStore
) -> float:
  """How like the old vectors of the same images mapped vectors are.

  Args:
    adapter: maps.
    new_store: N new vectors.
    old_store: old vectors of the same images.

  Returns:
    The mean over the images of the cosine similarity, those with a zero vector
    left out.
  """
  total, count = 0.0, 0
  for rows, new, old in Pairs(new_store, old_store).chunks():
    mapped = adapter.apply(new)[:, : old.shape[1]]
    total += np.sum(unit_rows(mapped) * old, dtype=np.float64)
    count += len(rows)
  return total / count


def _require_enough(store: EmbeddingStore, count: int, what: str) -> None:
  fewest = max(store.card.dimension, _FEWEST_IMAGES)
  if count < fewest:
    raise InputError(
      f'{store.path}: {count} {what}. A map of {store.card.dimension} '
      f'components is not known from so few; wanted: {fewest} or more, better '
      'many times as many. Embed more.'
    )
