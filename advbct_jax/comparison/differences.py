"""How far methods differ from one of them, seed by seed.

Cells of one seed share the old encoder and, where they start from it, the
independent one. What these do to both sides of a comparison drops out of its
differences, so they show less than the means' own deviations suggest.
"""

from collections.abc import Sequence
import math

from scipy import stats

from advbct_jax.comparison.dominance import AXES
from advbct_jax.comparison.summary import Row, Sample, display_name
from advbct_jax.errors import InputError

_CONFIDENCE = 0.95


def find_references(rows: Sequence[Row], against: str) -> dict[str, Row]:
  """Looks up the row that others are held against.

  Args:
    rows: of any number of upgrades.
    against: its METHOD/START.

  Returns:
    Upgrade -> that row, for those upgrades that have it.

  Raises:
    InputError: if none has.
  """
  found = {
    row.upgrade: row for row in rows if f'{row.method}/{row.start}' == against
  }
  if not found:
    names = dict.fromkeys(f'{row.method}/{row.start}' for row in rows)
    raise InputError(
      f'--against={against}: there is no such row; wanted: one of '
      f'{", ".join(names)}.'
    )
  return found


def paired_difference(
  one: Row, other: Row, dataset: str, axis: str
) -> Sample | None:
  """What one row has more than another, for each seed that both have.

  Args:
    one: a row.
    other: another of the same upgrade.
    dataset: that both were judged on.
    axis: `self` or `cross`.

  Returns:
    The differences by rising seed; None where no seed is in common.
  """
  values = [
    dict(zip(row.seeds, row.figures[dataset][axis].values, strict=True))
    for row in (one, other)
  ]
  seeds = sorted(values[0].keys() & values[1].keys())
  if not seeds:
    return None
  return Sample(tuple(values[0][seed] - values[1][seed] for seed in seeds))


def is_clear(difference: Sample) -> bool:
  """Whether Student's 95% interval of the mean difference leaves out zero.

  Args:
    difference: over at least two seeds; over one nothing is clear.

  >>> is_clear(Sample((2.0, 2.1, 1.9))), is_clear(Sample((2.0, 0.1, 4.0)))
  (True, False)
  """
  if difference.std is None:
    return False
  if not difference.std:  # as of adapters, which leave self as it is
    return difference.mean != 0
  margin = stats.t.ppf((1 + _CONFIDENCE) / 2, difference.n - 1)
  return bool(
    abs(difference.mean) > margin * difference.std / math.sqrt(difference.n)
  )


def describe_differences(
  rows: Sequence[Row], dataset: str, reference: Row
) -> str:
  """Lays out what each row has more than one of them, in self and in cross.

  Args:
    rows: of one upgrade; those that cannot serve an old gallery are left out.
    dataset: the data set to compare them on.
    reference: the row that the others are held against.

  Returns:
    A caption and a table in Markdown.
  """
  lines = [
    f'What each has more than {reference.label} on {dataset}, '
    f'`{reference.metrics[dataset]}`, mean ± standard deviation of the '
    'differences by seed; **bold** where their 95% interval (Student) leaves '
    'out 0. Of twenty such figures that are all noise one is bold.',
    '',
    '| method | start or adapter | self | cross |',
    '| --- | --- | ---: | ---: |',
  ]
  for row in rows:
    if row is reference or not row.competes:
      continue
    cells = [display_name(row.method), display_name(row.start)]
    for axis in AXES:
      difference = paired_difference(row, reference, dataset, axis)
      if difference is None:
        cells.append('–')
      else:
        text = difference.text(signed=True)
        cells.append(f'**{text}**' if is_clear(difference) else text)
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)
