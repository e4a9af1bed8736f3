"""A benchmark's cells as means over seeds, in Markdown, CSV and JSON."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
import csv
import dataclasses
import io
import json
import math
import statistics

from advbct_jax.benchmark.results import SIDES, CellResult
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
_SCORE_HEADS = {'p_up': 'P_up', 'p_comp': 'P_comp', 'p_1': 'P_1'}
_NOTHING = '–'


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

  def text(self, digits: int = 1) -> str:
    """The mean, and after ± the standard deviation where there is one.

    >>> Sample((40.0, 42.0)).text(), Sample((40.0,)).text()
    ('41.0 ± 1.4', '40.0')
    """
    mean = f'{self.mean:.{digits}f}'
    return mean if self.std is None else f'{mean} ± {self.std:.{digits}f}'


@dataclasses.dataclass(frozen=True)
class Row:
  """A method from one start, over its seeds.

  Attributes:
    upgrade: as in the cells.
    method: as in the cells.
    start: as in the cells.
    metric: which the figures are of.
    seeds: in rising order, as the values of each sample are.
    figures: data set -> 'old', 'self' or 'cross' -> percent.
    scores: `p_up`, `p_comp` and `p_1` over the data sets, of the seeds for
      which they are defined; empty where there is no such seed.
  """

  upgrade: str
  method: str
  start: str
  metric: str
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
  metric: str,
  methods: Sequence[str] = (),
  starts: Sequence[str] = (),
) -> list[Row]:
  """Averages cells over their seeds.

  The scores are computed for each seed, over its data sets, with the
  self-test of method 'independent' from 'fresh' of the same upgrade and seed.

  Args:
    cells: of any number of upgrades, in any order.
    metric: a metric of every data set, such as 'private/map@100'.
    methods: the order of the rows; the independent encoder comes first in any
      case, and methods that are not named last, as they occur.
    starts: the order of the rows of a method, likewise.

  Returns:
    A row for each upgrade, method and start; upgrades as they occur.

  Raises:
    InputError: if a cell is there twice, lacks the metric or a side, holds a
      figure that is not finite, or is of other data sets than its upgrade.
  """
  _check(cells, metric)
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
      if (of_seed := _score(cell, references, metric)) is not None
    ]
    rows.append(
      Row(
        upgrade=upgrade,
        method=method,
        start=start,
        metric=metric,
        seeds=tuple(cell.seed for cell in seeds),
        figures={
          dataset: {
            side: Sample(
              tuple(cell.figures[dataset][side][metric] for cell in seeds)
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


def markdown(rows: Sequence[Row]) -> str:
  """Lays rows out as the tables of a paper.

  Args:
    rows: of `summarize`.

  Returns:
    For each upgrade a heading, a caption and a table: the old encoder, then
    the rows in their order. The best of each column is bold, the second
    underlined, and what is no different from the best has a dagger.
  """
  return '\n\n'.join(
    f'### {upgrade}\n\n{_caption(part)}\n\n{_table(part)}'
    for upgrade, part in by_upgrade(rows).items()
  )


def records(rows: Sequence[Row]) -> list[dict[str, str | int | float | None]]:
  """Flattens rows to plain figures.

  Args:
    rows: of `summarize`.

  Returns:
    One record for each row and data set, all with the same fields: mean and
    std of `old`, `self` and `cross`, with `n` seeds, and of the scores, with
    `scores_n`. The scores are over all data sets of the upgrade, and so the
    same in each of its records. None where there is nothing.
  """
  flat: list[dict[str, str | int | float | None]] = []
  for row in rows:
    for dataset, sides in row.figures.items():
      record: dict[str, str | int | float | None] = {
        'upgrade': row.upgrade,
        'method': row.method,
        'start': row.start,
        'dataset': dataset,
        'metric': row.metric,
        'n': len(row.seeds),
      }
      for side in SIDES:
        record[f'{side}_mean'] = sides[side].mean
        record[f'{side}_std'] = sides[side].std
      record['scores_n'] = row.scores['p_1'].n if row.scores else 0
      for score in SCORES:
        sample = row.scores.get(score)
        record[f'{score}_mean'] = sample.mean if sample else None
        record[f'{score}_std'] = sample.std if sample else None
      flat.append(record)
  return flat


def csv_text(rows: Sequence[Row]) -> str:
  """Writes `records` as CSV, to the sixth decimal.

  Args:
    rows: of `summarize`.

  Returns:
    The text, its head first; a field is empty where there is nothing. Empty
    where there are no rows.
  """
  flat = records(rows)
  if not flat:
    return ''
  text = io.StringIO()
  writer = csv.DictWriter(text, list(flat[0]), lineterminator='\n')
  writer.writeheader()
  for record in flat:
    writer.writerow(
      {
        field: round(value, 6) if isinstance(value, float) else value
        for field, value in record.items()
      }
    )
  return text.getvalue()


def json_text(rows: Sequence[Row]) -> str:
  """Writes `records` as JSON.

  Args:
    rows: of `summarize`.

  Returns:
    The text: a list under 'rows', null where there is nothing.
  """
  return json.dumps({'rows': records(rows)}, indent=2) + '\n'


def _check(cells: Sequence[CellResult], metric: str) -> None:
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
        _check_figure(f'{cell.name}, {dataset}', sides, side, metric)


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
  metric: str,
) -> dict[str, float] | None:
  reference = references.get((cell.upgrade, cell.seed))
  if reference is None:
    return None
  old, self_test, cross_test = (
    [figures[side][metric] for figures in cell.figures.values()]
    for side in SIDES
  )
  independent = [
    reference.figures[dataset]['self'][metric] for dataset in cell.figures
  ]
  try:
    return upgrade_scores(old, self_test, cross_test, independent)
  except InputError:
    return None


def _caption(rows: Sequence[Row]) -> str:
  counts = {len(row.seeds) for row in rows}
  seeds = ''
  if len(counts) == 1:
    n = counts.pop()
    seeds = f' over {n} seeds' if n > 1 else ' of a single seed'
  spread = any(len(row.seeds) > 1 for row in rows)
  lines = [
    f'`{rows[0].metric}` in percent, '
    f'{"mean ± standard deviation" if spread else "figures"}{seeds}.',
    'Among the methods and adapters that can serve the old gallery, the best '
    'of each column is **bold** and the second <u>underlined</u>'
    + (
      '; † marks those within one pooled standard deviation of the best: no '
      'different from it.'
      if spread
      else '.'
    ),
  ]
  if any(row.scores for row in rows):
    lines.append(
      'Scores are over all data sets; P_up is 50 at the '
      "independent encoder's own self-test."
    )
  lines += [
    f'Scores of {_full_name(row)}: {row.scores["p_1"].n} of {len(row.seeds)} '
    'seeds only.'
    for row in rows
    if row.scores and row.scores['p_1'].n < len(row.seeds)
  ]
  reference = next((row for row in rows if not row.competes), None)
  lines += [
    f'On {dataset} the independent encoder is not above the old one: there was '
    'nothing to gain, and P_comp says nothing about this data set.'
    for dataset in rows[0].figures
    if reference
    and reference.figures[dataset]['self'].mean
    <= reference.figures[dataset]['old'].mean
  ]
  return ' '.join(lines)


def _full_name(row: Row) -> str:
  return f'{display_name(row.method)} ({display_name(row.start)})'


def _table(rows: Sequence[Row]) -> str:
  datasets = list(rows[0].figures)
  olds = {dataset: old_sample(rows, dataset) for dataset in datasets}
  head, first = ['method', 'start or adapter'], ['old encoder', _NOTHING]
  body = [[display_name(row.method), display_name(row.start)] for row in rows]
  if len({len(row.seeds) for row in rows}) > 1:
    head.append('seeds')
    first.append(str(max(old.n for old in olds.values())))
    for line, row in zip(body, rows, strict=True):
      line.append(str(len(row.seeds)))

  def add(title: str, old: str, column: list[str]) -> None:
    head.append(title)
    first.append(old)
    for line, cell in zip(body, column, strict=True):
      line.append(cell)

  for dataset in datasets:
    old = olds[dataset].text()
    for side, of_old in (('self', old), ('cross', _NOTHING)):
      samples = [row.figures[dataset][side] for row in rows]
      add(f'{dataset} {side}', of_old, _column(rows, samples, 1))
  for score, title in _SCORE_HEADS.items():
    add(title, _NOTHING, _column(rows, [r.scores.get(score) for r in rows], 2))
  rule = ['---'] * 2 + ['---:'] * (len(head) - 2)
  return '\n'.join(
    f'| {" | ".join(line)} |' for line in (head, rule, first, *body)
  )


def _column(
  rows: Sequence[Row], samples: Sequence[Sample | None], digits: int
) -> list[str]:
  """Writes a column, with its best, second and undecided ones marked."""
  rivals = [
    sample
    for row, sample in zip(rows, samples, strict=True)
    if row.competes and sample is not None
  ]
  # As they will be read: a tie to the reader is a tie.
  places = sorted({round(sample.mean, digits) for sample in rivals})[::-1]
  best = max(rivals, key=lambda sample: sample.mean, default=None)
  column = []
  for row, sample in zip(rows, samples, strict=True):
    if sample is None:
      column.append(_NOTHING)
      continue
    text, shown = sample.text(digits), round(sample.mean, digits)
    if row.competes and best is not None:
      if shown == places[0]:
        text = f'**{text}**'
      else:
        noise = pooled_std(best, sample)
        if shown == places[1]:
          text = f'<u>{text}</u>'
        if noise is not None and best.mean - sample.mean <= noise:
          text += ' †'
    column.append(text)
  return column
