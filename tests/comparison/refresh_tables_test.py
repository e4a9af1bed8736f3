"""Curves of policies as tables, with figures written out."""

import dataclasses

import pytest

from advbct_jax.comparison.averages import tabulate
from advbct_jax.comparison.refresh_plots import plot_refresh
from advbct_jax.comparison.refresh_tables import (
  describe_refresh,
  flatten_refresh,
  tabulate_refresh,
)
from tests.comparison.made_up_cells import METRIC, METRICS, make_cell


def make_curve(method, start, policy, values, seed=0, **figures):
  """A cell with a curve at 0, 10, 25 and 100 percent."""
  curve = dict(zip(('0', '10', '25', '100'), values, strict=True))
  return dataclasses.replace(
    make_cell(method, start, seed, **figures),
    refresh={'glyphs': {policy: {METRIC: curve}}},
  )


def make_curves(*cells):
  return tabulate_refresh(cells, tabulate(cells, METRICS))


def test_all_go_one_way_to_the_self_of_the_independent_encoder():
  curves = make_curves(
    make_curve(
      'independent', 'fresh', 'auto', (35, 40, 45, 50), old=30, self_test=50
    ),
    # Its own self is lower, and doesn't count.
    make_curve('l2', 'fresh', 'trained', (25, 30, 30, 40), self_test=40),
  )
  auto, trained = (line for _, line in curves.iterrows())

  assert [auto[f'way_{share}'] for share in (0, 10, 25)] == [25, 50, 75]
  assert [trained[f'way_{share}'] for share in (0, 10, 25)] == [-25, 0, 0]
  # Trapezia between 0, 10, 25 and 100%.
  assert auto['area'] == pytest.approx(0.0375 + 0.09375 + 0.65625)
  assert trained['area'] == pytest.approx(-0.0125 + 0.75 * 0.25)
  assert (auto['worst'], trained['worst']) == (5, -5)


def test_a_table_has_means_and_deviations_over_seeds_and_marks_the_best():
  curves = make_curves(
    *(
      make_curve(
        'independent',
        'fresh',
        'cascade:50',
        (35 + 2 * seed, 40, 45, 50),
        seed,
        old=30,
        self_test=50,
      )
      for seed in (0, 1)
    ),
    make_curve('l2', 'rotation', 'trained', (29, 30, 35, 40)),
  )
  text = describe_refresh(curves)

  assert (
    '| Independent | fresh | cascade, 50 | 2 | **30 ± 7** | **50 ± 0** | '
    '**75 ± 0** | **0.79 ± 0.00** | +6.0 ± 1.4 |'
  ) in text
  assert '| L2 | rotation | trained | 1 | <u>-5</u> | <u>0</u> |' in text
  assert flatten_refresh(curves)['way_0_mean'].tolist() == [30, -5]


def test_without_an_independent_encoder_there_is_no_way_to_go():
  text = describe_refresh(
    make_curves(make_curve('l2', 'fresh', 'trained', (25, 30, 30, 40)))
  )
  assert '| L2 | fresh | trained | -5.0 |' in text
  assert 'the lowest point less old (*worst*)' in text
  assert 'percent of the way' not in text


def test_cells_without_policies_have_no_curves():
  assert make_curves(make_cell(), make_cell('independent')).empty


def test_a_plot_is_drawn_of_any_number_of_rows(tmp_path):
  cells = [
    make_curve('independent', 'fresh', 'auto', (35, 40, 45, 50), self_test=50),
    *(
      make_curve(method, 'fresh', 'trained', (low, 30, 30, 40))
      for method, low in (('l2', 25), ('bct', 1))
    ),
  ]
  plot_refresh(make_curves(*cells), tmp_path / 'plot.png')
  assert (tmp_path / 'plot.png').stat().st_size > 10_000
