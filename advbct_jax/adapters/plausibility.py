"""Whether vectors are what an adapter was, or could be, fitted to.

Cards tell encoders apart, as far as whoever wrote them says so. Where two cards
agree, or were made by hand, only the vectors can tell.
"""

import warnings

import numpy as np

from advbct_jax.adapters.adapter import Adapter
from advbct_jax.adapters.pairs import FORWARD, Pairs
from advbct_jax.adapters.spaces import Space
from advbct_jax.embeddings.store import EmbeddingStore
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
  adapter: Adapter,
  store: EmbeddingStore,
  rows: np.ndarray,
  side_rows: np.ndarray | None = None,
) -> None:
  """Refuses vectors that look like those of the other side of a map.

  Warns, by `OutOfDomainWarning`, of those that look like neither side's.

  Args:
    adapter: maps; one that doesn't know its spaces takes everything.
    store: where they are, for messages.
    rows: [N, D] vectors of it, of which at most 2048 are looked at.
    side_rows: [N, D_side] side vectors of the same images, where it maps with
      these.

  Raises:
    InputError: if the map would be applied the wrong way round.
  """
  if adapter.source is None or adapter.target is None:
    return
  places = np.linspace(
    0, len(rows) - 1, min(len(rows), _MAX_LOOKED_AT), dtype=int
  )
  looked_at = [one[places] for one in (rows, side_rows) if one is not None]
  # What is all zero has no direction, and tells nothing.
  directed = np.all([one.any(axis=1) for one in looked_at], axis=0)
  vectors = adapter.join(*(one[directed] for one in looked_at))
  if not len(vectors):
    return
  if adapter.source.strangeness(vectors) < _STRANGE:
    return
  source, target = adapter.card.source, adapter.card.target
  if source['dimension'] == target['dimension'] and _from_target(
    adapter.source, adapter.target, vectors
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


def _from_target(source: Space, target: Space, vectors: np.ndarray) -> bool:
  """Whether vectors that are strange to the source are of the target.

  Args:
    source: of vectors as wide as these.
    target: of ones as wide, or narrower by what side vectors have.
    vectors: [N, D] or [N, D + D_side].
  """
  width = len(target.mean)
  if target.strangeness(vectors[:, :width]) >= _STRANGE:
    return False
  # New classes of a compatible encoder may lie nearer to where the old vectors
  # are than to where its own training images do. The old encoder's vectors are
  # far stranger to it.
  others = np.hstack([target.draw(len(vectors)), vectors[:, width:]])
  return source.strangeness(vectors) >= source.strangeness(others) / 2


def require_related(pairs: Pairs) -> None:
  """Refuses pairs of vectors that have nothing in common.

  As when a store's rows or ids were shuffled: the neighbours of an image in one
  space are then no likelier than others to be its neighbours in the other. Of
  fewer than 1000 pairs it says nothing.

  Args:
    pairs: that are to be fitted to.

  Raises:
    InputError: if the vectors of a store are all the same, or if neighbours
      among source or side vectors are those among target vectors no more often
      than by chance.
  """
  survey = pairs.survey
  source_store, target_store = (
    (pairs.old, pairs.new)
    if pairs.direction == FORWARD
    else (pairs.new, pairs.old)
  )
  source_stores = [source_store, *([pairs.side] if pairs.side else [])]
  sources = dict(zip(source_stores, pairs.apart(survey.source), strict=True))
  for store, vectors in {**sources, target_store: survey.target}.items():
    if len(vectors) and (vectors == vectors[0]).all():
      raise InputError(
        f'{store.path}: all vectors are the same, up to their length; nothing '
        'can be fitted to them. Have the store filled again by an encoder that '
        'tells images apart.'
      )
  count = len(survey.target)
  places = np.linspace(0, count - 1, min(count, _MAX_LOOKED_AT), dtype=int)
  if len(places) < _FEWEST_TO_JUDGE:
    return
  target_neighbours = _nearest(survey.target[places])
  chance = len(places) * _NEIGHBOURS**2 / (len(places) - 1)
  for store, vectors in sources.items():
    # Of 10 neighbours each, over all images: Poisson, about, where chance is.
    shared = sum(
      len(np.intersect1d(*both, assume_unique=True))
      for both in zip(_nearest(vectors[places]), target_neighbours, strict=True)
    )
    if shared <= chance + 5 * np.sqrt(chance):
      raise InputError(
        f'{store.path} and {target_store.path}: images that are near each '
        'other in one are no nearer than others in the other '
        f'({shared} of {len(places) * _NEIGHBOURS} neighbours are shared, '
        f'{chance:.0f} by chance). Wanted: two stores in which an id stands '
        'for the same image; see whether the rows of one are in the order of '
        'its ids.'
      )


def _nearest(vectors: np.ndarray) -> np.ndarray:
  """The rows [N, 10] of the nearest others to [N, D] unit vectors."""
  cosines = vectors @ vectors.T
  np.fill_diagonal(cosines, -np.inf)
  return np.argpartition(-cosines, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
