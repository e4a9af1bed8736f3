"""A comparison's cells as means over seeds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import math
import statistics

from advbct_jax.comparison.results import SIDES, CellResult
from advbct_jax.errors import InputError
from advbct_jax.retrieval.scores import upgrade_scores

SCORES = ('p_up', 'p_comp', 'p_1')

_REFERENCE = ('independent', 'fresh')
_NAMES = {
  'advbct': 'AdvBCT',
  'bct': 'BCT',
  'contrastive': 'Contrastive',
  'hot_refresh': 'Hot-refresh',
  'independent': 'Independent',
  'l2': 'L2',
  'lce': 'LCE',
  'procrustes': 'Procrustes',
  'residual_mlp': 'residual MLP',
  'unibct': 'UniBCT',
}


@dataclasses.dataclass(frozen=True)
class Sample:
  """The values that one figure took, one for each seed."""

  values: tuple[float, ...]

  @property
  def n(self) -> int:
    """The number of seeds."""
    return len(self.values)

  @property
  def mean(self) -> float:
    """The mean over seeds."""
    return statistics.fmean(self.values)

  @property
  def std(self) -> float | None:
    """The sample standard deviation, None for a single seed."""
    return statistics.stdev(self.values) if self.n > 1 else None

  def text(self, digits: int = 1, signed: bool = False) -> str:
    """The mean, and after ± the standard deviation where there is one.

    >>> Sample((40.0, 42.0)).text(), Sample((40.0,)).text(signed=True)
    ('41.0 ± 1.4', '+40.0')
    """
    mean = f'{self.mean:{"+" if signed else ""}.{digits}f}'
    return mean if self.std is None else f'{mean} ± {self.std:.{digits}f}'


@dataclasses.dataclass(frozen=True)
class Row:
  """A method from one start, over its seeds.

  Attributes:
    upgrade: as in the cells.
    method: as in the cells.
    start: as in the cells.
    metrics: data set -> which metric its figures are of.
    seeds: in rising order, as the values of each sample are.
    figures: data set -> 'old', 'self' or 'cross' -> percent.
    scores: `p_up`, `p_comp` and `p_1` over the data sets, of the seeds for
      which they are defined; empty where there is no such seed.
  """

  upgrade: str
  method: str
  start: str
  metrics: dict[str, str]
  seeds: tuple[int, ...]
  figures: dict[str, dict[str, Sample]]
  scores: dict[str, Sample]

  @property
  def competes(self) -> bool:
    """Whether it can serve an old gallery: independent without an adapter not.

    Its self-test is what the others are held against, not one of them.
    """
    return (self.method, self.start) != _REFERENCE

  @property
  def label(self) -> str:
    """Its name in a sentence or beside a point.

    Training from fresh weights is the rule and goes without saying.
    """
    method, start = display_name(self.method), display_name(self.start)
    if self.start == 'fresh':
      return method
    return start if self.method == 'independent' else f'{method} ({start})'


def display_name(name: str) -> str:
  """How a method, a start or an adapter is written for readers."""
  return _NAMES.get(name, name.replace('_', ' '))


def pooled_std(one: Sample, other: Sample) -> float | None:
  """The standard deviation that two samples have in common.

  Args:
    one: a sample.
    other: another; of a single seed it adds nothing.

  Returns:
    √(Σ (n−1)·s² / Σ (n−1)), or None where each is of a single seed.

  >>> pooled_std(Sample((1.0, 3.0)), Sample((5.0,))) == Sample((1.0, 3.0)).std
  True
  """
  freedom = one.n + other.n - 2
  if not freedom:
    return None
  squares = sum((s.n - 1) * (s.std or 0.0) ** 2 for s in (one, other))
  return math.sqrt(squares / freedom)


def summarize(
  cells: Sequence[CellResult],
  metrics: Sequence[str],
  methods: Sequence[str] = (),
  starts: Sequence[str] = (),
) -> list[Row]:
  """Averages cells over their seeds.

  The scores are computed for each seed, over its data sets, with the
  self-test of method 'independent' from 'fresh' of the same upgrade and seed.

  Args:
    cells: of any number of upgrades, in any order.
    metrics: such as 'private/map@100' and 'medium/map'; the figures of a data
      set are of the first that it has.
    methods: the order of the rows; the independent encoder comes first in any
      case, and methods that are not named last, as they occur.
    starts: the order of the rows of a method, likewise.

  Returns:
    A row for each upgrade, method and start; upgrades as they occur.

  Raises:
    InputError: if a cell is there twice, lacks the metrics or a side, holds a
      figure that is not finite, or is of other data sets than its upgrade.
  """
  chosen = _choose_metrics(cells, metrics)
  _check(cells, chosen)
  references = {
    (cell.upgrade, cell.seed): cell
    for cell in cells
    if (cell.method, cell.start) == _REFERENCE
  }
  groups = defaultdict(list)
  for cell in cells:
    groups[cell.upgrade, cell.method, cell.start].append(cell)
  upgrade_rank = _ranks(key[0] for key in groups)
  method_rank = _ranks(['independent', *methods, *(key[1] for key in groups)])
  start_rank = _ranks([*starts, *(key[2] for key in groups)])
  rows = []
  for upgrade, method, start in sorted(
    groups,
    key=lambda key: (
      upgrade_rank[key[0]],
      method_rank[key[1]],
      (key[1], key[2]) != _REFERENCE,
      start_rank[key[2]],
    ),
  ):
    seeds = sorted(groups[upgrade, method, start], key=lambda cell: cell.seed)
    scores = [
      of_seed
      for cell in seeds
      if (of_seed := _score(cell, references, chosen)) is not None
    ]
    rows.append(
      Row(
        upgrade=upgrade,
        method=method,
        start=start,
        metrics={dataset: chosen[dataset] for dataset in seeds[0].figures},
        seeds=tuple(cell.seed for cell in seeds),
        figures={
          dataset: {
            side: Sample(
              tuple(
                cell.figures[dataset][side][chosen[dataset]] for cell in seeds
              )
            )
            for side in SIDES
          }
          for dataset in seeds[0].figures
        },
        scores={
          score: Sample(tuple(of_seed[score] for of_seed in scores))
          for score in SCORES
          if scores
        },
      )
    )
  return rows


def by_upgrade(rows: Iterable[Row]) -> dict[str, list[Row]]:
  """Parts rows by upgrade, in their order."""
  parts: dict[str, list[Row]] = {}
  for row in rows:
    parts.setdefault(row.upgrade, []).append(row)
  return parts


def old_sample(rows: Sequence[Row], dataset: str) -> Sample:
  """What the old encoder reached, once for each seed.

  Args:
    rows: of one upgrade.
    dataset: one of theirs.

  Returns:
    The old encoder's figure, the mean of what the rows hold for a seed: they
    judged the same encoder, if not always on the same machine.
  """
  found = defaultdict(list)
  for row in rows:
    for seed, value in zip(
      row.seeds, row.figures[dataset]['old'].values, strict=True
    ):
      found[seed].append(value)
  return Sample(tuple(statistics.fmean(found[seed]) for seed in sorted(found)))


def _choose_metrics(
  cells: Sequence[CellResult], metrics: Sequence[str]
) -> dict[str, str]:
  chosen: dict[str, str] = {}
  for cell in cells:
    for dataset, sides in cell.figures.items():
      if dataset not in chosen:
        known = {metric for figures in sides.values() for metric in figures}
        found = next((name for name in metrics if name in known), None)
        if found is None:
          raise InputError(
            f'{cell.name}, {dataset}: no {" or ".join(metrics)!r} among its '
            f'metrics; there are {", ".join(sorted(known))}. Choose one of '
            'them.'
          )
        chosen[dataset] = found
  return chosen


def _check(cells: Sequence[CellResult], chosen: Mapping[str, str]) -> None:
  first_of: dict[str, CellResult] = {}
  seen = set()
  for cell in cells:
    if cell.name in seen:
      raise InputError(
        f'{cell.name} is there twice; wanted: one result for each cell. Leave '
        'one of them out.'
      )
    seen.add(cell.name)
    first = first_of.setdefault(cell.upgrade, cell)
    if not cell.figures or set(cell.figures) != set(first.figures):
      raise InputError(
        f'{cell.name} was judged on {sorted(cell.figures)} and {first.name} on '
        f'{sorted(first.figures)}; wanted: the same data sets throughout an '
        'upgrade. Judge them again, or leave data sets out.'
      )
    for dataset, sides in cell.figures.items():
      for side in SIDES:
        _check_figure(f'{cell.name}, {dataset}', sides, side, chosen[dataset])


def _check_figure(
  where: str,
  sides: Mapping[str, Mapping[str, float]],
  side: str,
  metric: str,
) -> None:
  if side not in sides:
    raise InputError(
      f'{where}: figures for {sorted(sides)}; wanted: {", ".join(SIDES)}. '
      'Judge the cell again.'
    )
  if metric not in sides[side]:
    raise InputError(
      f'{where}: no {metric!r} among the metrics of {side}; there are '
      f'{sorted(sides[side])}. Choose one of them.'
    )
  if not math.isfinite(sides[side][metric]):
    raise InputError(
      f'{where}: {metric} of {side} is {sides[side][metric]}; wanted: a finite '
      'figure. Run the cell again, or leave it out.'
    )


def _ranks(names: Iterable[str]) -> dict[str, int]:
  return {name: rank for rank, name in enumerate(dict.fromkeys(names))}


def _score(
  cell: CellResult,
  references: Mapping[tuple[str, int], CellResult],
  chosen: Mapping[str, str],
) -> dict[str, float] | None:
  reference = references.get((cell.upgrade, cell.seed))
  if reference is None:
    return None
  old, self_test, cross_test = (
    [
      figures[side][chosen[dataset]]
      for dataset, figures in cell.figures.items()
    ]
    for side in SIDES
  )
  independent = [
    reference.figures[dataset]['self'][chosen[dataset]]
    for dataset in cell.figures
  ]
  try:
    return upgrade_scores(old, self_test, cross_test, independent)
  except InputError:
    return None
