"""Differences by seed."""

import pandas as pd
import pytest

from advbct_jax.comparison.averages import tabulate
from advbct_jax.comparison.differences import (
  describe_differences,
  is_clear,
  require_row,
)
from advbct_jax.errors import InputError
from tests.comparison.made_up_cells import METRICS, make_cell


def _figures(**figures):
  """Of methods from fresh weights, each with seed -> (self, cross)."""
  return tabulate(
    [
      make_cell(method, seed=seed, self_test=self_test, cross=cross)
      for method, seeds in figures.items()
      for seed, (self_test, cross) in seeds.items()
    ],
    METRICS,
  )


def test_only_seeds_of_both_are_compared_each_with_its_like():
  figures = _figures(
    bct={2: (44.0, 20.0), 0: (30.0, 26.0)},
    advbct={0: (29.0, 25.0), 1: (99.0, 99.0), 2: (41.0, 24.0)},
  )
  text = describe_differences(figures, ('advbct', 'fresh'))

  # Of 1 and 3, and of 1 and -4.
  assert text.endswith('| BCT | fresh | +2.0 ± 1.4 | -1.5 ± 3.5 |')


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
    # Nothing but rounding, and a difference with no more noise than that.
    ((1e-10, 2e-10), False),
    ((2.0, 2.0 + 1e-10), True),
  ],
)
def test_a_difference_is_clear_beyond_its_95_percent_interval(values, clear):
  assert is_clear(pd.Series(values)) is clear


def test_the_table_is_signed_and_marks_what_is_clear():
  figures = _figures(
    independent={0: (50.0, 1.0), 1: (50.0, 1.0)},
    advbct={0: (40.0, 25.0), 1: (42.0, 26.0)},
    bct={0: (45.0, 24.0), 1: (47.0, 27.0)},
    l2={5: (36.0, 30.0)},
  )
  lines = describe_differences(figures, ('advbct', 'fresh')).splitlines()

  assert 'more than AdvBCT on glyphs, `private/map@100`' in lines[0]
  assert lines[2:] == [
    '| method | start or adapter | self | cross |',
    '| --- | --- | ---: | ---: |',
    '| BCT | fresh | **+5.0 ± 0.0** | +0.0 ± 1.4 |',
    '| L2 | fresh | – | – |',
  ]


@pytest.mark.parametrize('against', ['bct/old', 'bct', 'bct/fresh/0', '/'])
def test_a_row_that_no_upgrade_has_is_refused_with_those_that_are_there(
  against,
):
  figures = _figures(advbct={0: (1.0, 1.0)}, bct={0: (1.0, 1.0)})

  assert require_row(figures, 'bct/fresh') == ('bct', 'fresh')
  with pytest.raises(InputError) as refused:
    require_row(figures, against)
  assert str(refused.value) == (
    f'--against={against}: there is no such row; wanted: one of advbct/fresh, '
    'bct/fresh.'
  )
