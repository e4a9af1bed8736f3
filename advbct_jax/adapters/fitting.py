"""Fits an adapter to what two encoders said about the same images."""

import pathlib
from typing import Any
import warnings

import numpy as np

from advbct_jax.adapters.adapter import Adapter, AdapterCard, load_adapter
from advbct_jax.adapters.kinds import ADAPTERS, check_widths, find_kind
from advbct_jax.adapters.pairs import FORWARD, Pairs
from advbct_jax.adapters.plausibility import require_related
from advbct_jax.adapters.spaces import describe_space
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError

# So that the tenth that is held out has an image.
_FEWEST_IMAGES = 10


class FewPairsWarning(UserWarning):
  """There are fewer different pairs than source components."""


def fit_adapter(
  kind: str,
  new_store: EmbeddingStore,
  old_store: EmbeddingStore,
  *,
  seed: int = 0,
  direction: str | None = None,
  prior: Adapter | pathlib.Path | str | None = None,
  side_store: EmbeddingStore | None = None,
  **options: Any,
) -> Adapter:
  """Fits a map between the vectors of two encoders.

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
    direction: `backward` maps new vectors to old ones, `forward` old vectors to
      new ones; None for the kind's usual one.
    prior: an earlier rotation between encoders of these widths, or the folder
      that it is kept in, which few pairs draw towards; None for the identity.
    side_store: a third encoder's vectors of the same images, which stand beside
      the old ones wherever these are mapped; None for none.
    **options: of the kind; see its `fit`.

  Returns:
    The adapter.

  Raises:
    InputError: if there is no such kind, direction or option, if the old or the
      side store lacks images, if the kind or direction takes no side vectors,
      if the widths don't fit the kind, if there are fewer than 10 images, those
      with a zero vector left out, or if the stores have nothing in common.
  """
  prior = _open_prior(prior)
  card = plan_adapter(
    kind,
    new_store,
    old_store,
    seed=seed,
    direction=direction,
    prior=prior,
    side_store=side_store,
    **options,
  )
  pairs = Pairs(new_store, old_store, card.direction, side_store)
  _require_enough(new_store, len(pairs), 'images whose vectors are not zero')
  require_related(pairs)
  if pairs.few:
    warnings.warn(
      f'{pairs.describe_count()} are few for {pairs.width} components, so the '
      'map is shrunk as far as held-out pairs say; wanted: '
      f'{pairs.width} or more, better many times as many.',
      FewPairsWarning,
      stacklevel=2,
    )
  given = dict(card.options)
  if prior is not None:
    given['prior'] = prior.parameters['rotation']
  # What is laid out by columns would be saved as if by rows.
  parameters = {
    name: np.ascontiguousarray(array)
    for name, array in find_kind(kind).fit(pairs, **given).items()
  }
  survey = pairs.survey
  return Adapter(
    card,
    parameters,
    describe_space(survey.source),
    describe_space(survey.target),
  )


def plan_adapter(
  kind: str,
  new_store: EmbeddingStore,
  old_store: EmbeddingStore,
  *,
  seed: int = 0,
  direction: str | None = None,
  prior: Adapter | pathlib.Path | str | None = None,
  side_store: EmbeddingStore | None = None,
  **options: Any,
) -> AdapterCard:
  """Says what `fit_adapter` would fit; takes and raises the same."""
  known, extras = find_kind(kind).options, find_kind(kind).extras
  directions = find_kind(kind).directions
  direction = direction or directions[0]
  if direction not in directions:
    raise InputError(
      f'adapter: {kind} was asked for with the direction {direction!r}; '
      f'wanted: {" or ".join(directions)}.'
    )
  prior = _open_prior(prior)
  told = options | ({} if prior is None else {'prior': prior.digest})
  if unknown := sorted(told.keys() - {*known, *extras}):
    raise InputError(
      f'adapter: {kind} was told {", ".join(unknown)}; wanted: '
      f'{", ".join(["seed", *known, *extras])}.'
    )
  _require_enough(new_store, new_store.card.count, 'images')
  new, old = new_store.card.identity(), old_store.card.identity()
  _require_different(new_store, old_store, 'two')
  side = None
  if side_store is not None:
    _require_takes_side(kind, direction)
    for store in (new_store, old_store):
      _require_different(store, side_store, 'three')
    side = side_store.card.identity()
  check_widths(kind, new['dimension'], old['dimension'], direction)
  if prior is not None:
    _require_alike(prior.card, kind, direction, new, old)
  # A map forward that leaves components out is not one space.
  whole = direction != FORWARD or old['dimension'] <= new['dimension']
  return AdapterCard(
    kind=kind,
    one_space=find_kind(kind).one_space and whole,
    new=new,
    old=old,
    images={
      'name': new_store.card.images,
      'ids_digest': new_store.card.ids_digest,
      'count': new_store.card.count,
    },
    options={'seed': seed, **known, **told},
    direction=direction,
    side=side,
  )


def mean_cosine(
  adapter: Adapter,
  new_store: EmbeddingStore,
  old_store: EmbeddingStore,
  side_store: EmbeddingStore | None = None,
) -> float:
  """How like the vectors that it maps to mapped vectors are.

  Args:
    adapter: maps.
    new_store: N new vectors.
    old_store: old vectors of the same images.
    side_store: side vectors of them, where it was fitted with these.

  Returns:
    The mean over the images of the cosine similarity, those with a zero vector
    left out.
  """
  total, count = 0.0, 0
  pairs = Pairs(new_store, old_store, adapter.card.direction, side_store)
  for rows, source, target in pairs.chunks():
    mapped = adapter.apply(*pairs.apart(source))[:, : target.shape[1]]
    total += np.sum(unit_rows(mapped) * target, dtype=np.float64)
    count += len(rows)
  return total / count


def _open_prior(prior: Adapter | pathlib.Path | str | None) -> Adapter | None:
  return load_adapter(prior) if isinstance(prior, str | pathlib.Path) else prior


def _require_different(
  store: EmbeddingStore, other: EmbeddingStore, wanted: str
) -> None:
  """Refuses two stores of one encoder."""
  identity = store.card.identity()
  if identity == other.card.identity():
    raise InputError(
      f'{store.path} and {other.path} are of one encoder '
      f'({identity["encoder"]}, {identity["weights"]}); wanted: stores of '
      f'{wanted}.'
    )


def _require_takes_side(kind: str, direction: str) -> None:
  if not find_kind(kind).takes_side:
    able = [name for name in ADAPTERS if ADAPTERS[name].takes_side]
    raise InputError(
      f'adapter: {kind} takes no side vectors; wanted: {" or ".join(able)}, '
      'or no side store.'
    )
  if direction != FORWARD:
    raise InputError(
      f'adapter: side vectors stand beside old ones, which {kind} '
      f'{direction} does not map; wanted: the direction {FORWARD}, or no side '
      'store.'
    )


def _require_alike(
  prior: AdapterCard,
  kind: str,
  direction: str,
  new: dict[str, Any],
  old: dict[str, Any],
) -> None:
  """Refuses a prior that is no rotation between spaces of these widths."""
  found = (
    prior.kind,
    prior.direction,
    prior.new['dimension'],
    prior.old['dimension'],
  )
  wanted = (kind, direction, new['dimension'], old['dimension'])
  if found != wanted:
    raise InputError(
      'adapter: the prior is {} {} between widths {} and {}; wanted: {} {} '
      'between {} and {}. Name another, or none.'.format(*found, *wanted)
    )


def _require_enough(store: EmbeddingStore, count: int, what: str) -> None:
  if count < _FEWEST_IMAGES:
    width = store.card.dimension
    raise InputError(
      f'{store.path}: {count} {what}. A map of {width} components is not known '
      f'from so few; wanted: {_FEWEST_IMAGES} or more, better {width} and many '
      'times as many. Embed more.'
    )
