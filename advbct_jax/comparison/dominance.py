"""Which methods of a comparison are worth having, and which are beaten."""

from collections.abc import Sequence
import dataclasses

from advbct_jax.comparison.summary import Row, Sample, pooled_std

# The axes of the choice: what a whole backfill gives, and what comes at once.
AXES = ('self', 'cross')

# Percent. An adapter leaves the new encoder's self-test as it is, and rounding
# in its search must not decide which of two adapters is ahead.
_EQUAL = 1e-6


@dataclasses.dataclass(frozen=True)
class Domination:
  """A row that another one beats.

  Attributes:
    row: the beaten one.
    by: one that is at least as good in self and in cross, and better in one.
    clear_in: the axes in which it is better by more than the pooled standard
      deviation; empty where the noise may account for all of it.
  """

  row: Row
  by: Row
  clear_in: tuple[str, ...]


def frontier(rows: Sequence[Row], dataset: str) -> list[Row]:
  """Finds the rows that no other row dominates, by their means.

  Args:
    rows: of one upgrade.
    dataset: the data set to compare them on.

  Returns:
    Those rows for which no other is at least as good in self and in cross and
    better in one of them, by rising self.
  """
  ahead = [
    row
    for row in rows
    if not any(_dominates(other, row, dataset) for other in rows)
  ]
  return sorted(ahead, key=lambda row: row.figures[dataset]['self'].mean)


def dominations(rows: Sequence[Row], dataset: str) -> list[Domination]:
  """Says of each dominated row which row beats it most clearly.

  Args:
    rows: of one upgrade.
    dataset: the data set to compare them on.

  Returns:
    One entry for each row that is not on the frontier, in the rows' order: the
    row that beats it in the most axes by more than the noise, and of several
    the one that beats it by most in sum.
  """
  found = []
  for row in rows:
    beaten_by = [
      Domination(row, other, _clear_axes(other, row, dataset))
      for other in rows
      if _dominates(other, row, dataset)
    ]
    if beaten_by:
      found.append(
        max(
          beaten_by,
          key=lambda one: (
            len(one.clear_in),
            sum(_gain(one.by, one.row, axis, dataset) for axis in AXES),
          ),
        )
      )
  return found


def describe_dominance(rows: Sequence[Row], dataset: str) -> str:
  """Says in a paragraph which methods are dominated, and how clearly.

  Args:
    rows: of one upgrade; those that cannot serve an old gallery are left out.
    dataset: the data set to compare them on.

  Returns:
    Markdown; empty where there are no rows to compare.
  """
  rivals = [row for row in rows if row.competes]
  if not rivals:
    return ''
  ahead = ', '.join(row.label for row in frontier(rivals, dataset))
  sentences = [f'On {dataset}, the frontier of self and cross is {ahead}.']
  beaten = dominations(rivals, dataset)
  clear = [one for one in beaten if one.clear_in]
  unclear = [one for one in beaten if not one.clear_in]
  if clear:
    sentences.append(
      'Dominated, by more than one pooled standard deviation: '
      + '; '.join(_describe(one, dataset) for one in clear)
      + '.'
    )
  if unclear:
    sentences.append(
      'Dominated by their means alone, too closely or from too few seeds to '
      'tell: ' + '; '.join(_describe(one, dataset) for one in unclear) + '.'
    )
  return ' '.join(sentences)


def _describe(one: Domination, dataset: str) -> str:
  gains = ', '.join(
    f'{axis} {_gain(one.by, one.row, axis, dataset):+.1f}'
    for axis in one.clear_in or AXES
  )
  return f'**{one.row.label}** by {one.by.label} ({gains})'


def _dominates(one: Row, other: Row, dataset: str) -> bool:
  gains = [_gain(one, other, axis, dataset) for axis in AXES]
  return min(gains) >= -_EQUAL and max(gains) > _EQUAL


def _clear_axes(one: Row, other: Row, dataset: str) -> tuple[str, ...]:
  clear = []
  for axis in AXES:
    noise = pooled_std(
      _sample(one, axis, dataset), _sample(other, axis, dataset)
    )
    gain = _gain(one, other, axis, dataset)
    if noise is not None and gain > max(noise, _EQUAL):
      clear.append(axis)
  return tuple(clear)


def _gain(one: Row, other: Row, axis: str, dataset: str) -> float:
  return _sample(one, axis, dataset).mean - _sample(other, axis, dataset).mean


def _sample(row: Row, axis: str, dataset: str) -> Sample:
  return row.figures[dataset][axis]
