"""The refresh curve: how a gallery is found while it is re-embedded."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
import tqdm

from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.errors import InputError
from advbct_jax.refresh.orders import ORDERS, find_order
from advbct_jax.refresh.policies import label_policy
from advbct_jax.refresh.policy import OldPart, Policy, Queries
from advbct_jax.refresh.scale import Scale, fit_scale
from advbct_jax.refresh.search import (
  StagedGallery,
  search_cascade,
  search_staged,
)
from advbct_jax.refresh.upgrade import Upgrade
from advbct_jax.retrieval.protocols import protocol_of

# Percent of the gallery.
SHARES = (0, 2, 5, 10, 25, 50, 75, 90, 100)
SEEDS = (0, 1, 2)
_BLOCK = 8192  # so that no copy of half the gallery is made


def measure_curves(
  upgrade: Upgrade,
  policies: Mapping[str, Policy],
  orders: Sequence[str] = ('random',),
  seeds: Sequence[int] = SEEDS,
  shares: Sequence[int] = SHARES,
) -> dict[str, Any]:
  """Measures policies while the gallery is re-embedded.

  Args:
    upgrade: what is re-embedded.
    policies: by name; see `find_policies`.
    orders: names of orders of re-embedding.
    seeds: of the orders of each name that are tried; of one in which chance
      has no part only the first.
    shares: percent of the gallery, from 0 to 100, ascending.

  Returns:
    `metric`, its `old` and `self` in percent, `shares`, and `curves`: for each
    policy and order what `_summarise` gives.

  Raises:
    InputError: if an order is unknown, a policy cannot be fitted, or the shares
      don't ascend.
  """
  if [*shares] != sorted({*shares}) or shares[0] < 0 or shares[-1] > 100:
    raise InputError(
      f'refresh: shares {tuple(shares)}; wanted: percent of the gallery from 0 '
      'to 100, ascending: what is re-embedded stays so.'
    )
  for order in orders:
    find_order(order)
  judge = _Judge(upgrade.retrieval_set)
  old = judge(_search_one(upgrade.queries.needed_old(), upgrade.old, judge))
  new = judge(_search_one(upgrade.queries.new, upgrade.new, judge))
  curves = []
  tried = {
    order: seeds if ORDERS[order].random else seeds[:1] for order in orders
  }
  runs = sum(map(len, tried.values()))
  with tqdm.tqdm(
    total=runs * len(shares) * len(policies),
    desc=f'refreshing {upgrade.retrieval_set.name}',
    unit=' searches',
  ) as progress:
    for order in orders:
      measured = [
        _refresh(upgrade, policies, order, seed, shares, judge, progress)
        for seed in tried[order]
      ]
      for name, policy in policies.items():
        runs_of_one = [run[name] for run in measured]
        curves.append(
          {'policy': name, 'label': label_policy(policy), 'order': order}
          | _summarise(runs_of_one, shares, old, new)
        )
  return {
    'metric': judge.metric,
    'old': old.value,
    'self': new.value,
    'shares': list(shares),
    'curves': curves,
  }


@dataclasses.dataclass(frozen=True)
class _Result:
  """One search of all queries, judged.

  Attributes:
    figures: every metric in percent.
    value: the main one of them.
    first: [Q] booleans: whether the first result is wanted.
    calls: how many things were embedded for a query, in the mean.
  """

  figures: dict[str, float]
  value: float
  first: np.ndarray
  calls: float = 0.0


class _Judge:
  """Judges ranks by the protocol of a retrieval set.

  Attributes:
    metric: the main metric.
    depth: how many ranks it needs.
  """

  def __init__(self, retrieval_set: RetrievalSet):
    self._truth = retrieval_set.ground_truth
    self._protocol = protocol_of(retrieval_set)
    self.metric = self._protocol.main_metric
    count = len(retrieval_set.gallery)
    self.depth = min(self._protocol.depth or count, count)

  def __call__(self, ranks: np.ndarray, calls: float = 0.0) -> _Result:
    measured = self._protocol.measure(ranks, self._truth)
    first = np.array(
      [
        bool(np.isin(row[0], self._truth.wanted(query)))
        for query, row in enumerate(ranks)
      ]
    )
    figures = {metric: 100 * value for metric, value in measured.items()}
    return _Result(figures, figures[self.metric], first, calls)


def _search_one(
  queries: np.ndarray, gallery: np.ndarray, judge: _Judge
) -> np.ndarray:
  """Ranks of one encoder alone."""
  everything = np.ones(len(gallery), bool)
  staged = StagedGallery(gallery, gallery, everything)
  return search_staged(staged, None, None, Queries(queries), judge.depth)[1]


def _refresh(
  upgrade: Upgrade,
  policies: Mapping[str, Policy],
  order: str,
  seed: int,
  shares: Sequence[int],
  judge: _Judge,
  progress: Any,
) -> dict[str, list[_Result]]:
  """All policies at all shares, the things re-embedded in one order."""
  rows = find_order(order).arrange(
    upgrade.old, upgrade.pairs, upgrade.queries, seed
  )
  results: dict[str, list[_Result]] = {name: [] for name in policies}
  pairs, before = upgrade.pairs, 0
  done = np.zeros(len(rows), bool)
  for share in shares:
    after = len(rows) * share // 100
    fresh = rows[before:after]
    for start in range(0, len(fresh), _BLOCK):
      some = fresh[start : start + _BLOCK]
      pairs = pairs.add(upgrade.old[some], upgrade.new[some])
    done = done.copy()
    done[fresh] = True
    before = after
    gallery = StagedGallery(upgrade.old, upgrade.new, done)
    fitted: dict[Policy, tuple[OldPart | None, Scale | None]] = {}
    for name, policy in policies.items():
      # Where nothing is old any more there is nothing to fit.
      key = policy.part_of
      if key not in fitted:
        part = None if done.all() else policy.fit(pairs)
        fitted[key] = part, fit_scale(part, pairs) if part else None
      ranks, calls = search_cascade(
        gallery,
        *fitted[key],
        upgrade.queries,
        judge.depth,
        policy.budget,
      )
      results[name].append(judge(ranks, calls))
      progress.update()
  return results


def _summarise(
  runs: Sequence[Sequence[_Result]],
  shares: Sequence[int],
  old: _Result,
  new: _Result,
) -> dict[str, Any]:
  """What is said of one policy in one order.

  Args:
    runs: results by seed and share.
    shares: percent of the gallery.
    old: old queries in the old gallery.
    new: new queries in the new one.

  Returns:
    `mean` and `deviation` by share (percent); `figures`, the mean by share of
    every metric (percent); `gain` by share, the part of the
    way from old to self; `area`, its mean over the whole refresh; `above_from`,
    the first share from which the mean stays at or above old, None for never;
    `worst`, the lowest point less old; `positive_flips` and `negative_flips` by
    share, percent of queries whose first result becomes, or is no longer, a
    wanted one; `calls`, things embedded for a query, by share.
  """
  values = np.array([[one.value for one in run] for run in runs])
  mean = values.mean(axis=0)
  way = new.value - old.value
  gain = (mean - old.value) / way if way > 0 else np.full(len(mean), np.nan)
  above = mean >= old.value - 1e-6
  stays = [bool(above[place:].all()) for place in range(len(shares))]
  first = np.array([[one.first for one in run] for run in runs])
  return {
    'mean': mean.tolist(),
    'deviation': values.std(axis=0, ddof=len(runs) > 1).tolist(),
    'figures': {
      metric: np.mean(
        [[one.figures[metric] for one in run] for run in runs], axis=0
      ).tolist()
      for metric in new.figures
    },
    'gain': gain.tolist() if way > 0 else None,
    'area': float(np.trapezoid(gain, np.array(shares) / 100))
    if way > 0
    else None,
    'above_from': shares[stays.index(True)] if any(stays) else None,
    'worst': float(mean.min() - old.value),
    'positive_flips': _percent(first & ~old.first),
    'negative_flips': _percent(~first & old.first),
    'calls': np.mean([[one.calls for one in run] for run in runs], 0).tolist(),
  }


def _percent(flips: np.ndarray) -> list[float]:
  """Of booleans [seeds, shares, Q] the percent by share."""
  return list((100 * flips.mean(axis=(0, 2))).tolist())
