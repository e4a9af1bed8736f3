import pytest

from advbct_jax.comparison.averages import average, tabulate
from advbct_jax.comparison.dominance import describe_dominance, frontier
from tests.comparison.made_up_cells import METRICS, make_cell

_SHIFTS = (-1.0, 0.0, 1.0)


def _figures(places, shifts=_SHIFTS):
  """Rows with a deviation of 1 in self and in cross."""
  return tabulate(
    [
      make_cell(method, start, seed, self_test=x + shift, cross=y + shift)
      for (method, start), (x, y) in places.items()
      for seed, shift in enumerate(shifts)
    ],
    METRICS,
  )


def _fresh(**places):
  return _figures({(name, 'fresh'): place for name, place in places.items()})


def _frontier(figures):
  means = average(figures, ['method', 'start']).xs('mean', axis=1, level=1)
  return frontier(means).index.get_level_values('method').to_list()


def test_the_frontier_holds_what_nothing_beats_by_rising_self():
  figures = _fresh(a=(50, 20), b=(40, 30), c=(40, 29), d=(45, 25), e=(44, 24))

  assert _frontier(figures) == ['b', 'd', 'a']


def test_equals_do_not_dominate_each_other():
  assert _frontier(_fresh(a=(40, 30), b=(40, 30))) == ['a', 'b']


@pytest.mark.parametrize('rounding', [1e-9, -1e-9])
def test_rounding_does_not_decide_between_adapters(rounding):
  assert _frontier(_fresh(a=(40 + rounding, 20), b=(40, 30))) == ['b']


def test_a_domination_names_the_axes_in_which_it_exceeds_the_noise():
  figures = _fresh(
    best=(50, 30), clear=(48, 28), half=(49.5, 28), noise=(49.5, 29.5)
  )
  clearly, barely = describe_dominance(figures).split(' Dominated')[1:]

  assert '**clear** by best (self +2.0, cross +2.0)' in clearly
  assert '**half** by best (cross +2.0)' in clearly
  assert '**noise** by best (self +0.5, cross +0.5)' in barely


def test_the_clearest_of_several_is_named():
  figures = _fresh(near=(40.5, 36), far=(43, 33), beaten=(40, 30))

  # The nearer one gains more in sum, but within the noise in self.
  assert '**beaten** by far' in describe_dominance(figures)


def test_single_seeds_dominate_by_their_means_alone():
  figures = _figures(
    {('a', 'fresh'): (50, 30), ('b', 'fresh'): (40, 20)}, shifts=(0.0,)
  )

  assert describe_dominance(figures).endswith(
    'too few seeds to tell: **b** by a (self +10.0, cross +10.0).'
  )


def test_the_paragraph_parts_clear_from_unclear_and_leaves_independent_out():
  figures = _figures(
    {
      ('independent', 'fresh'): (60, 40),
      ('independent', 'ridge'): (50, 30),
      ('bct', 'old'): (40, 20),
      ('l2', 'fresh'): (49.8, 29.9),
    }
  )

  assert describe_dominance(figures) == (
    'On glyphs, the frontier of self and cross is ridge. Dominated, by more '
    'than one pooled standard deviation: **BCT (old)** by ridge (self +10.0, '
    'cross +10.0). Dominated by their means alone, too closely or from too few '
    'seeds to tell: **L2** by ridge (self +0.2, cross +0.1).'
  )
  assert describe_dominance(figures[figures['start'] == 'fresh'].head(3)) == ''
