"""Whether vectors are what an adapter was, or could be, fitted to.

Cards tell encoders apart, as far as whoever wrote them says so. Where two cards
agree, or were made by hand, only the vectors can tell.
"""

import warnings

import numpy as np

from advbct_jax.adapters.adapter import Adapter
from advbct_jax.adapters.pairs import FORWARD, Pairs
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError

# In standard deviations of the distance of a usual vector. On photographs and
# on text, other classes of the same kind are below 1.2, and the other encoder's
# vectors above 4.
_STRANGE = 2.0
_MAX_LOOKED_AT = 2048
# Below, neighbours that chance made cannot be told from those of two encoders
# that hardly agree.
_FEWEST_TO_JUDGE = 1000
_NEIGHBOURS = 10


class OutOfDomainWarning(UserWarning):
  """Vectors are of the right encoder, but unlike those that were fitted to."""


def require_source(
  adapter: Adapter, store: EmbeddingStore, rows: np.ndarray
) -> None:
  """Refuses vectors that look like those of the other side of a map.

  Warns, by `OutOfDomainWarning`, of those that look like neither side's.

  Args:
    adapter: maps; one that doesn't know its spaces takes everything.
    store: where they are, for messages.
    rows: [N, D] vectors of it, of which at most 2048 are looked at.

  Raises:
    InputError: if the map would be applied the wrong way round.
  """
  if adapter.source is None or adapter.target is None:
    return
  places = np.linspace(
    0, len(rows) - 1, min(len(rows), _MAX_LOOKED_AT), dtype=int
  )
  vectors = rows[places].astype(np.float32)
  # What is all zero has no direction, and tells nothing.
  vectors = unit_rows(vectors[vectors.any(axis=1)])
  if not len(vectors):
    return
  strangeness = adapter.source.strangeness(vectors)
  if strangeness < _STRANGE:
    return
  source, target = adapter.card.source, adapter.card.target
  if (
    source['dimension'] == target['dimension']
    and adapter.target.strangeness(vectors) < _STRANGE
  ):
    from_side, to_side = (
      ('old', 'new') if adapter.card.direction == FORWARD else ('new', 'old')
    )
    raise InputError(
      f'{store.path}: its vectors look like those of the {to_side} encoder '
      f'({target["encoder"]}), which this adapter maps to; wanted: vectors of '
      f'the {from_side} one ({source["encoder"]}). Name the other store, or '
      'fit an adapter of the other direction.'
    )
  # The same text for all stores of an evaluation, which Python prints once.
  warnings.warn(
    f'the vectors are unlike those that the adapter ({adapter.card.kind}) was '
    f'fitted to, {adapter.card.images["count"]} of '
    f'{adapter.card.images["name"]}: they are more than {_STRANGE:.0f} '
    'standard deviations farther away than usual. Fit one to vectors like '
    'these, or take procrustes, which changes them least.',
    OutOfDomainWarning,
    stacklevel=2,
  )


def require_related(pairs: Pairs) -> None:
  """Refuses pairs of which the two sides have nothing in common.

  As when a store's rows or ids were shuffled: the neighbours of an image in one
  space are then no likelier than others to be its neighbours in the other. Of
  fewer than 1000 pairs it says nothing.

  Args:
    pairs: that are to be fitted to.

  Raises:
    InputError: if one side's vectors are all the same, or if neighbours agree
      no more than by chance.
  """
  survey = pairs.survey
  for side, store in (('source', survey.source), ('target', survey.target)):
    if len(store) and (store == store[0]).all():
      new = (side == 'source') == (pairs.direction != FORWARD)
      raise InputError(
        f'{(pairs.new if new else pairs.old).path}: all vectors are the same, '
        'up to their length; nothing can be fitted to them. Have the store '
        'filled again by an encoder that tells images apart.'
      )
  places = np.linspace(
    0,
    len(survey.source) - 1,
    min(len(survey.source), _MAX_LOOKED_AT),
    dtype=int,
  )
  if len(places) < _FEWEST_TO_JUDGE:
    return
  source = _nearest(survey.source[places])
  target = _nearest(survey.target[places])
  # Of 10 neighbours each, over all images: about Poisson where chance alone is.
  shared = sum(
    len(np.intersect1d(*both, assume_unique=True))
    for both in zip(source, target, strict=True)
  )
  chance = len(places) * _NEIGHBOURS**2 / (len(places) - 1)
  if shared <= chance + 5 * np.sqrt(chance):
    raise InputError(
      f'{pairs.new.path} and {pairs.old.path}: images that are near each other '
      f'in one are no nearer than others in the other ({shared} of '
      f'{len(places) * _NEIGHBOURS} neighbours are shared, {chance:.0f} by '
      'chance). Wanted: two stores in which an id stands for the same image; '
      'see whether the rows of one are in the order of its ids.'
    )


def _nearest(vectors: np.ndarray) -> np.ndarray:
  """The rows [N, 10] of the nearest others to [N, D] unit vectors."""
  cosines = vectors @ vectors.T
  np.fill_diagonal(cosines, -np.inf)
  return np.argpartition(-cosines, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
