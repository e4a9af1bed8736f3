"""What to expect of an upgrade, before there are any labels.

Of a few thousand things that both encoders have embedded a part plays the
gallery and the others ask. What the new encoder alone would find is taken for
right, and a search is judged by how much of it it finds: the *agreement*. It is
what can be known without labels. Whether the new encoder is the better one
can't be; where things have classes, an estimate of that is made from them.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.refresh.known_pairs import know_training_pairs
from advbct_jax.refresh.policies import find_policy
from advbct_jax.refresh.policy import Queries
from advbct_jax.refresh.rotation import fit_rotation
from advbct_jax.refresh.scale import fit_scale
from advbct_jax.refresh.search import StagedGallery, search_staged

PLANNED_POLICIES = ('old', 'fixed', 'interpolate', 'auto_new', 'auto')
PLANNED_SHARES = (0, 2, 5, 10, 25, 50, 75)
NEIGHBOURS = 10
FEWEST = 200
_MOST_QUERIES = 500
_SEEDS = 3

# Above, the two encoders find nearly the same.
_ALIKE = 0.95
# How far a class-wise gain must be from nothing, in standard errors.
_CLEAR = 2.0


@dataclasses.dataclass(frozen=True)
class Plan:
  """What to expect.

  Attributes:
    pairs: things known in both spaces.
    agreement: the part of the new encoder's first 10 that the old one finds.
    cosine: the mean cosine of old and rotated new vectors, held out.
    curves: by policy, mean and standard error of the agreement at each of
      `PLANNED_SHARES`, [2, shares].
    precision: of classes among the first 10, by the old and the new encoder,
      and the standard error of the difference; None without classes.
    policy: which one to take; '' where the advice is not to upgrade.
    advice: sentences.
  """

  pairs: int
  agreement: float
  cosine: float
  curves: dict[str, np.ndarray]
  precision: tuple[float, float, float] | None
  policy: str
  advice: str


def plan_refresh(
  old: np.ndarray,
  new: np.ndarray,
  labels: Sequence[str] | None = None,
  *,
  old_at_query_time: bool = True,
  seed: int = 0,
) -> Plan:
  """Says what to expect of an upgrade.

  Args:
    old: [N, D_old] old vectors of a sample of the gallery.
    new: [N, D] new vectors of the same things.
    labels: [N] their classes, '' for none.
    old_at_query_time: whether the old encoder can go on to embed queries.
    seed: of the things that ask, and of the orders.

  Raises:
    InputError: if there are too few things, or constant vectors.
  """
  old, new = (unit_rows(np.asarray(rows, np.float32)) for rows in (old, new))
  _require_enough(old, new)
  random = np.random.default_rng(seed)
  shuffled = random.permutation(len(old))
  asking = shuffled[: min(len(old) // 4, _MOST_QUERIES)]
  # A quarter of the rest is known beforehand, as training things are.
  beforehand, gallery = np.split(
    shuffled[len(asking) :], [(len(old) - len(asking)) // 4]
  )
  queries = Queries(new[asking], old[asking])
  wanted = _search_alone(new[gallery], queries.new)
  found = _search_alone(old[gallery], queries.needed_old())
  agreement = _overlaps(found, wanted)
  base = know_training_pairs(
    [(old[beforehand], new[beforehand])],
    (old.shape[1], new.shape[1]),
    len(gallery),
  )
  turned = new[gallery] @ fit_rotation(base.training.total)
  names = [
    name
    for name in PLANNED_POLICIES
    if old_at_query_time or not find_policy(name).needs_old
  ]
  measured: dict[str, list[list[np.ndarray]]] = {name: [] for name in names}
  for one in range(_SEEDS):
    order = np.random.default_rng([seed, one]).permutation(len(gallery))
    by_share = [
      _agree_at(base, old[gallery], new[gallery], order, share, queries, names)
      for share in PLANNED_SHARES
    ]
    for name in names:
      measured[name].append(
        [_overlaps(ranks[name], wanted) for ranks in by_share]
      )
  curves = {}
  for name, runs in measured.items():
    values = np.array(runs).mean(axis=0)  # [shares, Q]
    error = values.std(axis=1) / np.sqrt(values.shape[1])
    curves[name] = np.stack([values.mean(axis=1), error])
  precision = _class_precision(old, new, labels)
  policy, advice = _advise(float(agreement.mean()), curves, precision)
  return Plan(
    pairs=len(old),
    agreement=float(agreement.mean()),
    cosine=float(np.sum(unit_rows(turned) * old[gallery], axis=1).mean()),
    curves=curves,
    precision=precision,
    policy=policy,
    advice=advice,
  )


def _require_enough(old: np.ndarray, new: np.ndarray) -> None:
  if len(old) != len(new) or len(old) < FEWEST:
    raise InputError(
      f'refresh plan: {len(old)} old and {len(new)} new vectors; wanted: both '
      f'of the same {FEWEST} things or more, better several thousand.'
    )
  for side, rows in (('old', old), ('new', new)):
    different = len(np.unique(rows, axis=0))
    if different < len(rows) // 2:
      raise InputError(
        f'refresh plan: only {different} of {len(rows)} {side} vectors differ. '
        'Take a sample of different things, and check the encoder.'
      )


def _agree_at(
  base: Any,
  old: np.ndarray,
  new: np.ndarray,
  order: np.ndarray,
  share: int,
  queries: Queries,
  names: Sequence[str],
) -> dict[str, np.ndarray]:
  rows = order[: len(order) * share // 100]
  done = np.zeros(len(old), bool)
  done[rows] = True
  pairs = base.add(old[rows], new[rows]) if len(rows) else base
  staged = StagedGallery(old, new, done)
  ranks = {}
  for name in names:
    part = find_policy(name).fit(pairs)
    scale = fit_scale(part, pairs)
    ranks[name] = search_staged(staged, part, scale, queries, NEIGHBOURS)[1]
  return ranks


def _search_alone(gallery: np.ndarray, queries: np.ndarray) -> np.ndarray:
  done = np.ones(len(gallery), bool)
  staged = StagedGallery(gallery, gallery, done)
  return search_staged(staged, None, None, Queries(queries), NEIGHBOURS)[1]


def _overlaps(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """[Q] which part of the wanted [Q, k] was found."""
  return (found[:, :, None] == wanted[:, None, :]).any(axis=2).mean(axis=1)


def _class_precision(
  old: np.ndarray, new: np.ndarray, labels: Sequence[str] | None
) -> tuple[float, float, float] | None:
  """How many of the first 10 are of the thing's class, by either encoder."""
  if labels is None:
    return None
  names = np.asarray(labels)
  counts = dict(zip(*np.unique(names, return_counts=True), strict=True))
  shared = [name for name, count in counts.items() if name and count > 1]
  rows = np.flatnonzero(np.isin(names, shared))
  if len(shared) < 2 or len(rows) < FEWEST:
    return None
  names = names[rows]
  by_encoder = []
  for vectors in (old[rows], new[rows]):
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    first = np.argsort(-scores, axis=1)[:, :NEIGHBOURS]
    by_encoder.append((names[first] == names[:, None]).mean(axis=1))
  difference = by_encoder[1] - by_encoder[0]
  error = float(difference.std() / np.sqrt(len(difference)))
  return float(by_encoder[0].mean()), float(by_encoder[1].mean()), error


def _advise(
  agreement: float,
  curves: dict[str, np.ndarray],
  precision: tuple[float, float, float] | None,
) -> tuple[str, str]:
  if precision and precision[1] - precision[0] < -_CLEAR * precision[2]:
    return '', (
      "Don't: among things of one class the new encoder finds fewer of the "
      f'class ({100 * precision[1]:.1f}% of its first {NEIGHBOURS}) than the '
      f'old one ({100 * precision[0]:.1f}%).'
    )
  if agreement > _ALIKE:
    return '', (
      f"Don't, unless for other reasons: the old encoder finds "
      f'{100 * agreement:.0f}% of what the new one finds, so that little can '
      'change.'
    )
  candidates = [name for name in curves if name.startswith('auto')]
  policy = 'auto' if 'auto' in candidates else candidates[0]
  old = curves.get('old')
  baseline = agreement if old is None else float(old[0, 0])
  ahead = [
    share
    for share, value in zip(PLANNED_SHARES, curves[policy][0], strict=True)
    if value >= baseline
  ]
  start = (
    f'from {ahead[0]}% on it is nearer to the new encoder than the old one is'
    if ahead
    else 'it stays farther from the new encoder than the old one is: keep old '
    'queries until most is re-embedded'
  )
  better = (
    'Whether the new encoder is the better one, only labels can tell.'
    if precision is None
    else 'Among things of one class the new encoder finds '
    f'{100 * precision[1]:.1f}% of the class among its first {NEIGHBOURS}, the '
    f'old one {100 * precision[0]:.1f}%.'
  )
  return policy, f'Take the policy {policy}: {start}. {better}'
