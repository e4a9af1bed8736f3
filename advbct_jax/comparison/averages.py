"""The figures of a comparison's cells as one table, and their means over seeds.

A *row* is a method from one start (or with one adapter) in one upgrade; a
*column* of rows has their `mean`, their sample standard deviation `std` (NaN of
a single seed) and the number `n` of seeds.
"""

from collections.abc import Iterable, Mapping, Sequence
import contextlib
import math

import numpy as np
import pandas as pd

from advbct_jax.comparison.labels import REFERENCE
from advbct_jax.comparison.results import SIDES, CellResult
from advbct_jax.errors import InputError
from advbct_jax.retrieval.scores import upgrade_scores

ROW = ['upgrade', 'method', 'start']
SCORES = ['p_up', 'p_comp', 'p_1']

# Percent. Self-tests of one encoder may differ by the rounding of a search;
# that must not decide which of two rows is ahead, or look like a difference.
EQUAL = 1e-6


def tabulate(
  cells: Sequence[CellResult], metrics: Sequence[str]
) -> pd.DataFrame:
  """Lays out the figures of cells.

  Args:
    cells: at least one, of any number of upgrades, in any order.
    metrics: such as 'private/map@100' and 'medium/map'; the figures of a data
      set are of the first that it has.

  Returns:
    A line for each cell and data set: `upgrade`, `method`, `start`, `seed`,
    `dataset`, `metric`; `old`, `self` and `cross` in percent; `p_up`, `p_comp`
    and `p_1` of the cell over all its data sets, against the self-test of the
    independent encoder of the same upgrade and seed, NaN where there is none or
    they are undefined. The independent encoder leads and fresh weights come
    before other starts; upgrades, methods and starts follow as they occur.

  Raises:
    InputError: if a cell is there twice, lacks the metrics or a side, holds a
      figure that is not finite, or is of other data sets than its upgrade.
  """
  upgrades = _in_order(cell.upgrade for cell in cells)
  methods = _in_order([REFERENCE[0], *(cell.method for cell in cells)])
  starts = _in_order([REFERENCE[1], *(cell.start for cell in cells)])
  chosen: dict[str, str] = {}
  seen: dict[str, CellResult] = {}
  lines = []
  for cell in sorted(
    cells,
    key=lambda cell: (
      upgrades.index(cell.upgrade),
      methods.index(cell.method),
      starts.index(cell.start),
      cell.seed,
    ),
  ):
    _require_new(cell, seen)
    for dataset, sides in cell.figures.items():
      # One metric a data set, or means would be of different things.
      known = [chosen[dataset]] if dataset in chosen else metrics
      # Two given encoders may have two widths, and then no cross.
      optional = (cell.method, cell.start) == REFERENCE and 'cross' not in sides
      chosen[dataset] = _choose(
        known,
        sides,
        SIDES[:-1] if optional else SIDES,
        f'{cell.name}, {dataset}',
      )
      lines.append(
        {
          **{field: getattr(cell, field) for field in [*ROW, 'seed']},
          'dataset': dataset,
          'metric': chosen[dataset],
          **{
            side: sides.get(side, {}).get(chosen[dataset], math.nan)
            for side in SIDES
          },
        }
      )
  return _with_scores(pd.DataFrame(lines))


def average(figures: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
  """Averages figures over their seeds.

  Args:
    figures: of `tabulate`.
    by: the fields that tell apart what is averaged by itself.

  Returns:
    For each of those, in their order, the columns of each figure and score:
    indexed by (`self`, `mean`) and the like.
  """
  # Else pandas would put the rows in alphabetical order.
  grouped = figures.groupby(list(by), sort=False)[[*SIDES, *SCORES]]
  return grouped.agg(['mean', 'std', 'count']).rename(columns={'count': 'n'})


def average_old(figures: pd.DataFrame) -> pd.Series:
  """Averages what the old encoder reached, once for each seed.

  Args:
    figures: of `tabulate`, of one upgrade and data set.

  Returns:
    `mean`, `std` and `n`.
  """
  # Rows of one seed judged the same encoder, if not on the same machine.
  by_seed = figures.groupby('seed')['old'].mean()
  return by_seed.agg(['mean', 'std', 'count']).rename({'count': 'n'})


def leave_out_reference(rows: pd.DataFrame) -> pd.DataFrame:
  """The rows that can serve an old gallery.

  Args:
    rows: indexed by method and start.
  """
  return rows.drop([REFERENCE], errors='ignore')


def pooled_stds(column: pd.DataFrame) -> np.ndarray:
  """The standard deviations that samples have in common, two by two.

  Args:
    column: `std` and `n` ≥ 1 of R rows.

  Returns:
    [R, R]: √(Σ (n−1)·s² / Σ (n−1)), NaN where both are of a single seed.

  >>> pooled_stds(pd.DataFrame({'std': [2.0, np.nan], 'n': [2, 1]})).tolist()
  [[2.0, 2.0], [2.0, nan]]
  """
  freedom = column['n'].to_numpy() - 1
  squares = freedom * column['std'].fillna(0).to_numpy() ** 2
  with np.errstate(invalid='ignore'):  # 0/0 of two single seeds
    return np.sqrt(
      np.add.outer(squares, squares) / np.add.outer(freedom, freedom)
    )


def sample_text(
  sample: pd.Series, digits: int = 1, signed: bool = False
) -> str:
  """The mean, and after ± the standard deviation where there is one.

  >>> sample_text(pd.Series({'mean': 41.0, 'std': 1.41}), signed=True)
  '+41.0 ± 1.4'
  """
  mean = f'{sample["mean"]:{"+" if signed else ""}.{digits}f}'
  std = sample['std']
  return mean if math.isnan(std) else f'{mean} ± {std:.{digits}f}'


def _in_order(names: Iterable[str]) -> list[str]:
  return list(dict.fromkeys(names))


def _require_new(cell: CellResult, seen: dict[str, CellResult]) -> None:
  """Refuses a cell that is there already, or of other data sets."""
  if cell.name in seen:
    raise InputError(
      f'{cell.name} is there twice; wanted: one result for each cell. Leave '
      'one of them out.'
    )
  seen[cell.name] = cell
  first = next(one for one in seen.values() if one.upgrade == cell.upgrade)
  if not cell.figures or cell.figures.keys() != first.figures.keys():
    raise InputError(
      f'{cell.name} was judged on {sorted(cell.figures)} and {first.name} on '
      f'{sorted(first.figures)}; wanted: the same data sets throughout an '
      'upgrade. Judge them again, or leave data sets out.'
    )


def _choose(
  metrics: Sequence[str],
  sides: Mapping[str, Mapping[str, float]],
  wanted: Sequence[str],
  where: str,
) -> str:
  """The first metric that each wanted side has, with finite figures."""
  of_all = [sides.get(side, {}) for side in wanted]
  known = [metric for metric in of_all[0] if all(metric in of for of in of_all)]
  metric = next((metric for metric in metrics if metric in known), None)
  if metric is None:
    raise InputError(
      f'{where}: no {" or ".join(metrics)!r} in each of {", ".join(wanted)}; '
      f'there are {", ".join(known) or "none"}. Choose one of them, or judge '
      'the cell again.'
    )
  for side, figures in zip(wanted, of_all, strict=True):
    if not math.isfinite(figures[metric]):
      raise InputError(
        f'{where}: {metric} of {side} is {figures[metric]}; wanted: a finite '
        'figure. Run the cell again, or leave it out.'
      )
  return metric


def _with_scores(figures: pd.DataFrame) -> pd.DataFrame:
  """Adds the scores of each cell, over its data sets, to each of its lines."""
  method, start = REFERENCE
  is_reference = (figures['method'] == method) & (figures['start'] == start)
  independent = figures[is_reference].set_index(['upgrade', 'seed', 'dataset'])
  found = figures.join(
    independent['self'].rename('independent'), on=independent.index.names
  )
  cell = [*ROW, 'seed']
  scores = found.groupby(cell, sort=False)[[*SIDES, 'independent']].apply(
    _score
  )
  return figures.join(scores, on=cell)


def _score(cell: pd.DataFrame) -> pd.Series:
  scores: dict[str, float] = {}
  if cell['independent'].notna().all():
    # Undefined where there is nothing to gain on one of the data sets.
    with contextlib.suppress(InputError):
      scores = upgrade_scores(*(cell[side] for side in [*SIDES, 'independent']))
  return pd.Series(scores, SCORES, float)
