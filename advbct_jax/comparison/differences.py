"""How far methods differ from one of them, seed by seed.

Cells of one seed share the old encoder and, where they start from it, the
independent one. What these do to both sides of a comparison drops out of its
differences, so they show less than the means' own deviations suggest.
"""

import numpy as np
import pandas as pd
from scipy import stats

from advbct_jax.comparison.averages import EQUAL, sample_text
from advbct_jax.comparison.dominance import AXES
from advbct_jax.comparison.labels import (
  REFERENCE,
  method_label,
  row_label,
  start_label,
)
from advbct_jax.comparison.tables import NOTHING, lay_out
from advbct_jax.errors import InputError

_CONFIDENCE = 0.95


def require_row(figures: pd.DataFrame, against: str) -> tuple[str, str]:
  """Looks up the row that others are held against.

  Args:
    figures: of `averages.tabulate`, of any number of upgrades.
    against: its METHOD/START.

  Returns:
    Its method and start.

  Raises:
    InputError: if no upgrade has it.
  """
  rows = figures[['method', 'start']].drop_duplicates()
  names = (rows['method'] + '/' + rows['start']).to_list()
  if against not in names:
    raise InputError(
      f'--against={against}: there is no such row; wanted: one of '
      f'{", ".join(names)}.'
    )
  method, start = against.split('/')
  return method, start


def is_clear(differences: pd.Series) -> bool:
  """Whether Student's 95% interval of the mean difference leaves out zero.

  Args:
    differences: over at least two seeds; over one nothing is clear.

  >>> is_clear(pd.Series([2.0, 2.1, 1.9])), is_clear(pd.Series([2.0, 0.1, 4.0]))
  (True, False)
  """
  if len(differences) < 2:
    return False
  # As of adapters, which leave self as it is: the test would divide 0 by 0.
  if np.ptp(differences) < EQUAL:
    return bool(abs(differences.mean()) > EQUAL)
  return bool(stats.ttest_1samp(differences, 0).pvalue < 1 - _CONFIDENCE)


def describe_differences(
  figures: pd.DataFrame, reference: tuple[str, str]
) -> str:
  """Lays out what each row has more than one of them, in self and in cross.

  Args:
    figures: of `averages.tabulate`, of one upgrade and data set.
    reference: method and start of the row that the others are held against.

  Returns:
    A caption and a table in Markdown, without the rows that cannot serve an old
    gallery.
  """
  first = figures.iloc[0]
  rows = figures[['method', 'start']].drop_duplicates()
  keys = [
    key
    for key in rows.itertuples(index=False, name=None)
    if key not in (reference, REFERENCE)
  ]
  columns = {
    'method': [method_label(method) for method, _ in keys],
    'start or adapter': [start_label(start) for _, start in keys],
  }
  for axis in AXES:
    by_seed = figures.pivot(
      index='seed', columns=['method', 'start'], values=axis
    )
    # NaN where one of the two lacks a seed.
    differences = by_seed.sub(by_seed[reference], axis='index')
    columns[axis] = [_cell(differences[key].dropna()) for key in keys]
  return (
    f'What each has more than {row_label(*reference)} on {first["dataset"]}, '
    f'`{first["metric"]}`, mean ± standard deviation of the '
    'differences by seed; **bold** where their 95% interval (Student) leaves '
    f'out 0. Of twenty such figures that are all noise one is bold.\n\n'
    + lay_out(columns)
  )


def _cell(differences: pd.Series) -> str:
  if differences.empty:
    return NOTHING
  text = sample_text(differences.agg(['mean', 'std']), signed=True)
  return f'**{text}**' if is_clear(differences) else text
