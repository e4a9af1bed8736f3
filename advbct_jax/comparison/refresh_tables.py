"""How the cells of a comparison are found while the gallery is re-embedded.

A *row* is a cell's method and start with one of the refresh policies that it
was judged by. All rows of an upgrade go one way, from the old encoder to what
the independent one has once everything is re-embedded, so that policies,
adapters and trained encoders can be held against each other.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from advbct_jax.comparison.averages import ROW, sample_text
from advbct_jax.comparison.labels import (
  REFERENCE,
  method_label,
  policy_label,
  start_label,
)
from advbct_jax.comparison.results import CellResult
from advbct_jax.comparison.tables import lay_out, mark

REFRESH_ROW = ['method', 'start', 'policy']
# Percent of the gallery of which tables tell how far it is.
_SHARES = (0, 10, 25)
_WAYS = [f'way_{share}' for share in _SHARES]
_COLUMNS = [*_WAYS, 'area', 'worst']


def tabulate_refresh(
  cells: Sequence[CellResult], figures: pd.DataFrame
) -> pd.DataFrame:
  """Lays out what the policies of cells reached.

  Args:
    cells: of any number of upgrades.
    figures: of `averages.tabulate`, of the same cells.

  Returns:
    A line for each cell, data set and policy, in the order of `figures`:
    `upgrade`, `method`, `start`, `policy`, `seed`, `dataset`, `metric`; `old`;
    `shares`, percent of the gallery, and `values`, the metric in percent at
    each; `way_0`, `way_10` and `way_25`, percent of the way from old to the
    self-test of the independent encoder of the same upgrade and seed; `area`,
    the part of it in the mean over the refresh; `worst`, the lowest value less
    old. Ways and areas are NaN where there is no such encoder, or nothing to
    gain. Empty where no cell has a policy.
  """
  by_name = {
    (cell.upgrade, cell.method, cell.start, cell.seed): cell for cell in cells
  }
  selves = figures.set_index([*ROW, 'seed', 'dataset'])['self']
  lines = []
  for _, line in figures.iterrows():
    cell = by_name[tuple(line[[*ROW, 'seed']])]
    goal = selves.get(
      (line['upgrade'], *REFERENCE, line['seed'], line['dataset']), np.nan
    )
    for policy, measured in cell.refresh.get(line['dataset'], {}).items():
      curve = measured[line['metric']]
      shares = np.array([int(share) for share in curve])
      values = np.array(list(curve.values()))
      lines.append(
        {
          **line[[*ROW, 'seed', 'dataset', 'metric', 'old']],
          'policy': policy,
          'shares': tuple(shares.tolist()),
          'values': tuple(values.tolist()),
          **_summarise(shares, values, line['old'], goal),
        }
      )
  return pd.DataFrame(lines)


def _summarise(
  shares: np.ndarray, values: np.ndarray, old: float, goal: float
) -> dict[str, float]:
  way = (values - old) / (goal - old) if goal > old else values * np.nan
  return {
    **dict(zip(_WAYS, 100 * np.interp(_SHARES, shares, way), strict=True)),
    'area': float(np.trapezoid(way, shares / 100)),
    'worst': float(values.min() - old),
  }


def average_refresh(curves: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
  """Averages over seeds, as `averages.average` does for plain figures."""
  grouped = curves.groupby(list(by), sort=False)[_COLUMNS]
  return grouped.agg(['mean', 'std', 'count']).rename(columns={'count': 'n'})


def describe_refresh(curves: pd.DataFrame) -> str:
  """Lays out the curves of one upgrade and data set.

  Args:
    curves: of `tabulate_refresh`.

  Returns:
    A caption and a table in Markdown.
  """
  first = curves.iloc[0]
  rows = average_refresh(curves, REFRESH_ROW)
  seeds = curves.groupby(REFRESH_ROW, sort=False)['seed'].nunique()
  spread = seeds.max() > 1
  columns = {
    'method': [method_label(method) for method, _, _ in rows.index],
    'start or adapter': [start_label(start) for _, start, _ in rows.index],
    'policy': [policy_label(policy) for _, _, policy in rows.index],
  }
  if seeds.nunique() > 1:
    columns['seeds'] = seeds.map(str).to_list()
  caption = (
    f'While the gallery of {first["dataset"]} is re-embedded in a random '
    f'order, `{first["metric"]}`'
    f'{", mean ± standard deviation over seeds" if spread else ""}: '
  )
  if curves['area'].notna().any():
    for share, way in zip(_SHARES, _WAYS, strict=True):
      columns[f'{share}%'] = list(mark(rows[way], 0))
    columns['area'] = list(mark(rows['area'], 2))
    caption += (
      "percent of the way from the old encoder to the independent one's self "
      'with 0, 10 and 25% of it re-embedded; *area*, the part of the way in '
      'the mean over the refresh; *worst*, the lowest point less old. The best '
      'of each column is **bold** and the second <u>underlined</u>'
      f'{", † as above" if spread else ""}.'
    )
  else:
    caption += 'the lowest point less old (*worst*).'
  columns['worst'] = [
    sample_text(sample, signed=True) for _, sample in rows['worst'].iterrows()
  ]
  return f'{caption}\n\n{lay_out(columns, names=3)}'


def flatten_refresh(curves: pd.DataFrame) -> pd.DataFrame:
  """Averages curves to plain columns: a line for each row and data set."""
  means = average_refresh(
    curves, ['upgrade', *REFRESH_ROW, 'dataset', 'metric']
  )
  n = means['worst', 'n']
  means = means.drop(columns='n', level=1)
  means.columns = [f'{figure}_{statistic}' for figure, statistic in means]
  means.insert(0, 'n', n)
  return means.reset_index()
