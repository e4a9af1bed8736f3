from advbct_jax.comparison.dominance import (
  describe_dominance,
  dominations,
  frontier,
)
from advbct_jax.comparison.summary import summarize
from tests.comparison.made_up_cells import METRICS, make_cell

_SHIFTS = (-1.0, 0.0, 1.0)


def _rows(places, shifts=_SHIFTS):
  """Rows with a deviation of 1 in self and in cross."""
  return summarize(
    [
      make_cell(method, start, seed, self_test=x + shift, cross=y + shift)
      for (method, start), (x, y) in places.items()
      for seed, shift in enumerate(shifts)
    ],
    METRICS,
  )


def _methods(rows):
  return [row.method for row in rows]


def test_the_frontier_holds_what_nothing_beats_by_rising_self():
  rows = _rows(
    {
      ('a', 'fresh'): (50, 20),
      ('b', 'fresh'): (40, 30),
      ('c', 'fresh'): (40, 29),
      ('d', 'fresh'): (45, 25),
      ('e', 'fresh'): (44, 24),
    }
  )

  assert _methods(frontier(rows, 'glyphs')) == ['b', 'd', 'a']


def test_equals_do_not_dominate_each_other():
  rows = _rows({('a', 'fresh'): (40, 30), ('b', 'fresh'): (40, 30)})

  assert _methods(frontier(rows, 'glyphs')) == ['a', 'b']


def test_rounding_does_not_decide_between_adapters():
  rows = _rows({('a', 'fresh'): (40 + 1e-9, 20), ('b', 'fresh'): (40, 30)})

  assert _methods(frontier(rows, 'glyphs')) == ['b']


def test_a_domination_names_the_axes_in_which_it_exceeds_the_noise():
  rows = _rows(
    {
      ('best', 'fresh'): (50, 30),
      ('clear', 'fresh'): (48, 28),
      ('half', 'fresh'): (49.5, 28),
      ('noise', 'fresh'): (49.5, 29.5),
    }
  )

  found = {one.row.method: one for one in dominations(rows, 'glyphs')}

  assert list(found) == ['clear', 'half', 'noise']
  assert {one.by.method for one in found.values()} == {'best'}
  assert found['clear'].clear_in == ('self', 'cross')
  assert found['half'].clear_in == ('cross',)
  assert found['noise'].clear_in == ()


def test_the_clearest_of_several_is_named():
  rows = _rows(
    {
      ('near', 'fresh'): (40.5, 36),
      ('far', 'fresh'): (43, 33),
      ('beaten', 'fresh'): (40, 30),
    }
  )

  (one,) = dominations(rows, 'glyphs')

  # The nearer one gains more in sum, but within the noise in self.
  assert one.by.method == 'far'


def test_single_seeds_dominate_by_their_means_alone():
  rows = _rows(
    {('a', 'fresh'): (50, 30), ('b', 'fresh'): (40, 20)}, shifts=(0.0,)
  )

  (one,) = dominations(rows, 'glyphs')

  assert one.clear_in == ()
  assert 'too few seeds' in describe_dominance(rows, 'glyphs')


def test_the_paragraph_parts_clear_from_unclear_and_leaves_independent_out():
  rows = _rows(
    {
      ('independent', 'fresh'): (60, 40),
      ('independent', 'ridge'): (50, 30),
      ('bct', 'old'): (40, 20),
      ('l2', 'fresh'): (49.8, 29.9),
    }
  )

  assert describe_dominance(rows, 'glyphs') == (
    'On glyphs, the frontier of self and cross is ridge. Dominated, by more '
    'than one pooled standard deviation: **BCT (old)** by ridge (self +10.0, '
    'cross +10.0). Dominated by their means alone, too closely or from too few '
    'seeds to tell: **L2** by ridge (self +0.2, cross +0.1).'
  )
  assert describe_dominance(rows[:1], 'glyphs') == ''
