"""Differences by seed."""

import pytest

from advbct_jax.comparison.differences import (
  describe_differences,
  find_references,
  is_clear,
  paired_difference,
)
from advbct_jax.comparison.summary import Sample, summarize
from advbct_jax.errors import InputError
from tests.comparison.made_up_cells import METRICS, make_cell


def _rows(**figures):
  """Rows by method, each with {seed: (self, cross)}."""
  cells = [
    make_cell(method, seed=seed, self_test=self_test, cross=cross)
    for method, seeds in figures.items()
    for seed, (self_test, cross) in seeds.items()
  ]
  return {row.method: row for row in summarize(cells, METRICS)}


def test_only_seeds_of_both_are_compared_each_with_its_like():
  rows = _rows(
    bct={2: (44.0, 20.0), 0: (30.0, 26.0)},
    advbct={0: (29.0, 25.0), 1: (99.0, 99.0), 2: (41.0, 24.0)},
  )
  differences = [
    paired_difference(rows['bct'], rows['advbct'], 'glyphs', axis)
    for axis in ('self', 'cross')
  ]
  assert differences == [Sample((1.0, 3.0)), Sample((1.0, -4.0))]


@pytest.mark.parametrize(
  ('values', 'clear'),
  [
    # Student's two-sided 95% quantile for three values is 4.303; the means are
    # 4.20 and 4.34 standard errors (of 1/√3) from zero.
    ((1.425, 2.425, 3.425), False),
    ((1.505, 2.505, 3.505), True),
    ((-3.505, -2.505, -1.505), True),
    ((5.0,), False),
    ((0.0, 0.0), False),
    ((2.0, 2.0), True),
  ],
)
def test_a_difference_is_clear_beyond_its_95_percent_interval(values, clear):
  assert is_clear(Sample(values)) is clear


def test_the_table_is_signed_and_marks_what_is_clear():
  rows = _rows(
    independent={0: (50.0, 1.0), 1: (50.0, 1.0)},
    advbct={0: (40.0, 25.0), 1: (42.0, 26.0)},
    bct={0: (45.0, 24.0), 1: (47.0, 27.0)},
    l2={5: (36.0, 30.0)},
  )
  text = describe_differences(list(rows.values()), 'glyphs', rows['advbct'])
  lines = text.splitlines()

  assert 'more than AdvBCT on glyphs, `private/map@100`' in lines[0]
  assert lines[4:] == [
    '| BCT | fresh | **+5.0 ± 0.0** | +0.0 ± 1.4 |',
    '| L2 | fresh | – | – |',
  ]


def test_a_row_that_no_upgrade_has_is_refused_with_those_that_are_there():
  rows = list(_rows(advbct={0: (1.0, 1.0)}, bct={0: (1.0, 1.0)}).values())

  assert find_references(rows, 'bct/fresh') == {'extended_class': rows[1]}
  with pytest.raises(InputError) as refused:
    find_references(rows, 'bct/old')
  assert str(refused.value) == (
    '--against=bct/old: there is no such row; wanted: one of advbct/fresh, '
    'bct/fresh.'
  )
