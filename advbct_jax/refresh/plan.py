"""What to expect of an upgrade, from a sample of things and no ground truth.

Of a few thousand things that both encoders have embedded some ask, some are
known beforehand, and the others play the gallery. Policies are judged while it
is re-embedded: how far they get on the way from what the old encoder finds, 0,
to what the new one finds, 100.

Where things have classes, those of the asking thing's class are wanted. What
is known beforehand is of other classes, as training things are. Without
classes, or where they show no difference, what the new encoder finds first is
wanted. That says how near a policy comes to the new encoder: nothing of which
encoder is better, and too little where both together find more than the new
one alone.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from advbct_jax.data.ground_truth import Gldv2GroundTruth
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.refresh.known_pairs import KnownPairs, know_training_pairs
from advbct_jax.refresh.policies import find_policy
from advbct_jax.refresh.policy import Queries
from advbct_jax.refresh.rotation import fit_rotation
from advbct_jax.refresh.scale import fit_scale
from advbct_jax.refresh.search import StagedGallery, search_staged
from advbct_jax.refresh.vector_checks import require_different
from advbct_jax.retrieval.metrics import gldv2_by_query

PLANNED_POLICIES = ('old', 'fixed', 'interpolate', 'auto_new', 'auto')
PLANNED_SHARES = (0, 2, 5, 10, 25, 50, 75)
NEIGHBOURS = 10
FEWEST = 200
_DEPTH = 100
_MOST_QUERIES = 500
_ORDERS = 3
_RESAMPLES = 200

# Above, the two encoders find nearly the same.
_ALIKE = 0.95
# How far a gain must be from nothing, in standard errors.
_CLEAR = 2.0


@dataclasses.dataclass(frozen=True)
class Quality:
  """How well things of a class find each other.

  Attributes:
    old: the old encoder's mean average precision of the first 100.
    new: the new one's.
    error: the standard error of the difference.
  """

  old: float
  new: float
  error: float

  @property
  def clearly_better(self) -> bool:
    """Whether the new encoder is ahead by more than chance."""
    return self.new - self.old > _CLEAR * self.error

  @property
  def clearly_worse(self) -> bool:
    """Whether it is behind by more than chance."""
    return self.old - self.new > _CLEAR * self.error


@dataclasses.dataclass(frozen=True)
class Plan:
  """What to expect.

  Attributes:
    pairs: things known in both spaces.
    agreement: the part of the new encoder's first 10 that the old one finds.
    cosine: the mean cosine of old and rotated new vectors, held out.
    quality: by classes; None without.
    by_classes: whether the curves are by classes; else they are by what the new
      encoder finds first.
    curves: by policy, percent of the way from old to new at each of
      `PLANNED_SHARES`, and its standard error, [2, shares]; empty where the
      advice is not to upgrade.
    policy: which one to take; '' where the advice is not to upgrade.
    advice: sentences.
  """

  pairs: int
  agreement: float
  cosine: float
  quality: Quality | None
  by_classes: bool
  curves: dict[str, np.ndarray]
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
  nearness = _sample_by_nearness(old, new, np.random.default_rng(seed))
  found = nearness.search_old()[:, :NEIGHBOURS]
  agreement = float(
    np.mean(
      [
        np.isin(ranks, wanted).mean()
        for ranks, wanted in zip(found, nearness.truth.relevant, strict=True)
      ]
    )
  )
  rotation = fit_rotation(nearness.base.training.total)
  turned = unit_rows(nearness.new @ rotation)
  sample, quality = nearness, None
  by_class = _sample_by_class(
    old, new, np.asarray(labels or ()), np.random.default_rng(seed)
  )
  if by_class is not None:
    quality = _measure_quality(by_class)
    if quality.clearly_better:
      sample = by_class
  names = [
    name
    for name in PLANNED_POLICIES
    if old_at_query_time or not find_policy(name).needs_old
  ]
  # Where the way is no way, nothing can be said of how far one gets on it.
  policy, advice, curves = '', _reason_not_to(agreement, quality), {}
  if not advice:
    curves = _measure_curves(sample, names, seed)
    policy, advice = _advise(quality, curves)
  return Plan(
    pairs=len(old),
    agreement=agreement,
    cosine=float(np.sum(turned * nearness.old, axis=1).mean()),
    quality=quality,
    by_classes=sample is by_class,
    curves=curves,
    policy=policy,
    advice=advice,
  )


def _require_enough(old: np.ndarray, new: np.ndarray) -> None:
  if len(old) != len(new) or len(old) < FEWEST:
    raise InputError(
      f'refresh plan: {len(old)} old and {len(new)} new vectors; wanted: both '
      f'of the same {FEWEST} things or more, better several thousand.'
    )
  require_different(old, 'old')
  require_different(new, 'new')


@dataclasses.dataclass(frozen=True)
class _Sample:
  """Things that play a gallery, and Q that ask.

  Attributes:
    base: what is known beforehand.
    old: [N, D_old] of the gallery.
    new: [N, D].
    queries: those that ask.
    truth: what is wanted.
    unit: [Q] integers; queries of one unit aren't independent.
  """

  base: KnownPairs
  old: np.ndarray
  new: np.ndarray
  queries: Queries
  truth: Gldv2GroundTruth
  unit: np.ndarray

  def search_old(self) -> np.ndarray:
    """[Q, k] what the old encoder finds."""
    return _search_alone(self.old, self.queries.needed_old())

  def search_new(self) -> np.ndarray:
    """[Q, k] what the new encoder finds."""
    return _search_alone(self.new, self.queries.new)

  def search(
    self, name: str, pairs: KnownPairs, done: np.ndarray
  ) -> np.ndarray:
    """[Q, k] what a policy finds while some are re-embedded."""
    part = find_policy(name).fit(pairs)
    return search_staged(
      StagedGallery(self.old, self.new, done),
      part,
      fit_scale(part, pairs),
      self.queries,
      _DEPTH,
    )[1]

  def judge(self, ranks: np.ndarray) -> np.ndarray:
    """[Q] average precisions."""
    return gldv2_by_query(ranks, self.truth)


def _sample_by_nearness(
  old: np.ndarray, new: np.ndarray, random: np.random.Generator
) -> _Sample:
  """Any things; wanted is what the new encoder finds first."""
  shuffled = random.permutation(len(old))
  asking = shuffled[: min(len(old) // 4, _MOST_QUERIES)]
  known, gallery = np.split(
    shuffled[len(asking) :], [(len(old) - len(asking)) // 4]
  )
  wanted = _search_alone(new[gallery], new[asking])[:, :NEIGHBOURS]
  return _make_sample(old, new, known, gallery, asking, list(wanted))


def _sample_by_class(
  old: np.ndarray,
  new: np.ndarray,
  labels: np.ndarray,
  random: np.random.Generator,
) -> _Sample | None:
  """Wanted are things of the class; known are things of a quarter of classes.

  Returns:
    None where too few things share a class.
  """
  names, number, counts = np.unique(
    labels, return_inverse=True, return_counts=True
  )
  shared = random.permutation(np.flatnonzero((names != '') & (counts > 1)))
  known_classes, classes = np.split(shared, [len(shared) // 4])
  known = np.flatnonzero(np.isin(number, known_classes))
  rows = random.permutation(np.flatnonzero(np.isin(number, classes)))
  asking = rows[: min(len(rows) // 4, _MOST_QUERIES)]
  # What has no class is in nobody's way but in the gallery's, as it would be.
  others = np.flatnonzero(~np.isin(number, shared))
  gallery = np.concatenate([rows[len(asking) :], others])
  asking = asking[np.isin(number[asking], number[gallery])]
  if len(known_classes) < 2 or min(len(known), len(asking)) < FEWEST // 4:
    return None
  wanted = [np.flatnonzero(number[gallery] == one) for one in number[asking]]
  return _make_sample(
    old, new, known, gallery, asking, wanted, unit=number[asking]
  )


def _make_sample(
  old: np.ndarray,
  new: np.ndarray,
  known: np.ndarray,
  gallery: np.ndarray,
  asking: np.ndarray,
  wanted: list[np.ndarray],
  unit: np.ndarray | None = None,
) -> _Sample:
  return _Sample(
    know_training_pairs(
      [(old[known], new[known])],
      (old.shape[1], new.shape[1]),
      len(gallery),
    ),
    old[gallery],
    new[gallery],
    Queries(new[asking], old[asking]),
    Gldv2GroundTruth(wanted, ['Private'] * len(asking)),
    np.arange(len(asking)) if unit is None else unit,
  )


def _search_alone(gallery: np.ndarray, queries: np.ndarray) -> np.ndarray:
  done = np.ones(len(gallery), bool)
  staged = StagedGallery(gallery, gallery, done)
  return search_staged(staged, None, None, Queries(queries), _DEPTH)[1]


def _measure_quality(sample: _Sample) -> Quality:
  old = sample.judge(sample.search_old())
  new = sample.judge(sample.search_new())
  differences = [
    (new - old) @ weights / weights.sum() for weights in _resample(sample)
  ]
  return Quality(
    float(old.mean()), float(new.mean()), float(np.std(differences))
  )


def _measure_curves(
  sample: _Sample, names: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
  """By policy, percent of the way and its standard error, [2, shares]."""
  judged: dict[str, list[list[np.ndarray]]] = {name: [] for name in names}
  for order in range(_ORDERS):
    rows = np.random.default_rng([seed, order]).permutation(len(sample.old))
    for runs in judged.values():
      runs.append([])
    for share in PLANNED_SHARES:
      fresh = rows[: len(rows) * share // 100]
      done = np.zeros(len(rows), bool)
      done[fresh] = True
      pairs = sample.base
      if len(fresh):
        pairs = pairs.add(sample.old[fresh], sample.new[fresh])
      for name in names:
        judged[name][-1].append(sample.judge(sample.search(name, pairs, done)))
  old = sample.judge(sample.search_old())
  new = sample.judge(sample.search_new())
  curves = {}
  for name, runs in judged.items():
    gained = np.mean(runs, axis=0) - old  # [shares, Q]
    ways = [
      100 * (gained @ weights) / ((new - old) @ weights)
      for weights in _resample(sample)
    ]
    way = 100 * gained.mean(axis=1) / (new - old).mean()
    curves[name] = np.stack([way, np.std(ways, axis=0)])
  return curves


def _resample(sample: _Sample) -> np.ndarray:
  """[R, Q] how often a query is drawn when units are drawn anew (bootstrap)."""
  units, number = np.unique(sample.unit, return_inverse=True)
  random = np.random.default_rng(0)
  drawn = random.multinomial(
    len(units), np.full(len(units), 1 / len(units)), _RESAMPLES
  )
  return drawn[:, number].astype(np.float64)


def _reason_not_to(agreement: float, quality: Quality | None) -> str:
  if quality and quality.clearly_worse:
    return (
      "Don't: things of one class find each other less by the new encoder "
      f'(mAP@100 of {100 * quality.new:.1f}) than by the old one '
      f'({100 * quality.old:.1f}).'
    )
  if agreement > _ALIKE:
    return (
      "Don't, unless for other reasons: the old encoder finds "
      f'{100 * agreement:.0f}% of what the new one finds, so that little can '
      'change.'
    )
  return ''


def _advise(
  quality: Quality | None, curves: dict[str, np.ndarray]
) -> tuple[str, str]:
  policy = 'auto' if 'auto' in curves else 'auto_new'
  ahead = [
    share
    for share, way in zip(PLANNED_SHARES, curves[policy][0], strict=True)
    if way >= 0
  ]
  start = (
    f'from {ahead[0]}% on it is expected above the old encoder'
    if ahead
    else 'but not before most is re-embedded: it is expected below the old '
    'encoder until then'
  )
  if quality is None:
    better = 'Whether the new encoder is the better one, only labels can tell.'
  else:
    better = (
      'Things of one class find each other with a mAP@100 of '
      f'{100 * quality.new:.1f} by the new encoder and '
      f'{100 * quality.old:.1f} by the old one'
      + ('.' if quality.clearly_better else ', which may be chance.')
    )
  return policy, f'Take the policy {policy}: {start}. {better}'
