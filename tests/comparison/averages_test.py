"""Cells as one table, and means over seeds."""

import math
import statistics

import pandas as pd
import pytest

from advbct_jax.comparison.averages import (
  average,
  average_old,
  pooled_stds,
  sample_text,
  tabulate,
)
from advbct_jax.errors import InputError
from advbct_jax.retrieval.scores import upgrade_scores
from tests.comparison.made_up_cells import METRIC, METRICS, make_cell

ROW = ['method', 'start']


def _means(cells):
  return average(tabulate(cells, METRICS), ROW)


def test_figures_are_averaged_over_seeds_with_the_sample_deviation():
  cells = [make_cell(seed=s, cross=c) for s, c in ((2, 36.0), (1, 32.0))]

  assert tabulate(cells, METRICS)['seed'].to_list() == [1, 2]
  cross = _means(cells).loc[('advbct', 'fresh'), 'cross']
  assert cross.to_dict() == {
    'mean': 34.0,
    'std': pytest.approx(math.sqrt(8)),
    'n': 2,
  }
  assert sample_text(cross) == '34.0 ± 2.8'


def test_a_single_seed_has_no_deviation():
  sample = _means([make_cell()]).iloc[0]['self']

  assert math.isnan(sample['std'])
  assert sample_text(sample) == '40.0'


def test_an_old_encoder_counts_once_for_each_seed():
  cells = [
    make_cell('bct', seed=0, old=30.0),
    # On another machine, which rounds otherwise.
    make_cell('lce', seed=0, old=31.0),
    make_cell('bct', seed=1, old=32.5),
  ]
  old = average_old(tabulate(cells, METRICS))

  assert old.to_dict() == {
    'mean': 31.5,
    'std': pytest.approx(math.sqrt(2)),
    'n': 2,
  }


def test_scores_take_the_independent_encoder_of_the_same_seed():
  cells = [
    make_cell('independent', seed=1, self_test=50.0),
    make_cell('independent', seed=0, self_test=60.0),
    # The adapter's own self-test must not be taken for the reference.
    make_cell('independent', 'ridge', seed=0, self_test=99.0),
    make_cell('independent', seed=0, self_test=20.0, upgrade='another'),
    make_cell(seed=0),
    make_cell(seed=1),
  ]
  figures = tabulate(cells, METRICS)
  scores = figures[figures['method'] == 'advbct'][['p_up', 'p_comp', 'p_1']]

  by_seed = [
    upgrade_scores([30.0], [40.0], [35.0], [reference])
    for reference in (60.0, 50.0)
  ]
  assert scores.to_dict('records') == by_seed
  row = _means(cells).loc['advbct', 'fresh']
  for name in scores:
    assert row[name, 'std'] == pytest.approx(
      statistics.stdev(scores[name] for scores in by_seed)
    )


def test_scores_are_over_all_data_sets():
  reference = make_cell('independent', self_test=60.0, datasets=('a', 'b'))
  cell = make_cell(datasets=('a', 'b'))
  cell.figures['b']['cross'][METRIC] = 20.0

  expected = upgrade_scores([30.0] * 2, [40.0] * 2, [35.0, 20.0], [60.0] * 2)
  figures = tabulate([reference, cell], METRICS)
  of_cell = figures[figures['method'] == 'advbct']
  assert of_cell['dataset'].to_list() == ['a', 'b']
  for _, line in of_cell.iterrows():
    assert line[list(expected)].to_dict() == pytest.approx(expected)


@pytest.mark.parametrize(
  'cells',
  [
    # Nothing to gain; no reference at all; one of another seed.
    [make_cell('independent', self_test=30.0), make_cell()],
    [make_cell()],
    [make_cell('independent', seed=1, self_test=60.0), make_cell()],
  ],
)
def test_scores_that_are_not_defined_are_left_out(cells):
  row = _means(cells).loc['advbct', 'fresh']

  assert row['p_1', 'n'] == 0
  assert row['self', 'n'] == 1


def test_rows_keep_their_order_behind_the_independent_encoder_and_fresh_ones():
  cells = [
    make_cell(method, start)
    for method, start in (
      ('zbct', 'fresh'),
      ('l2', 'old'),
      ('advbct', 'aligned'),
      ('l2', 'fresh'),
      ('independent', 'ridge'),
      ('independent', 'fresh'),
    )
  ]

  assert _means(cells).index.to_list() == [
    ('independent', 'fresh'),
    ('independent', 'ridge'),
    ('zbct', 'fresh'),
    ('l2', 'fresh'),
    ('l2', 'old'),
    ('advbct', 'aligned'),
  ]


def test_deviations_are_pooled_by_their_degrees_of_freedom():
  column = pd.DataFrame(
    {'std': [math.sqrt(2), 0.0, math.nan, math.nan], 'n': [2, 3, 1, 1]}
  )
  pooled = pooled_stds(column)

  # (1·2 + 2·0)/3.
  assert pooled[0, 1] == pooled[1, 0] == pytest.approx(math.sqrt(2 / 3))
  assert pooled[0, 2] == pytest.approx(math.sqrt(2))
  assert math.isnan(pooled[2, 3])


@pytest.mark.parametrize(
  ('cells', 'message'),
  [
    ([make_cell(), make_cell()], 'is there twice'),
    ([make_cell(), make_cell(seed=1, datasets=('b',))], 'same data sets'),
    ([make_cell(datasets=())], 'same data sets'),
    ([make_cell(cross=math.nan)], 'cross is nan'),
    ([make_cell(old=math.inf)], 'old is inf'),
  ],
)
def test_cells_that_do_not_go_together_are_refused(cells, message):
  with pytest.raises(InputError, match=message):
    tabulate(cells, METRICS)


def test_each_data_set_has_the_first_metric_that_it_was_judged_by():
  cell = make_cell(datasets=('glyphs', 'roxford5k'))
  cell.figures['roxford5k'] = {
    side: {'hard/map': 1.0, 'medium/map': 70.0}
    for side in ('old', 'self', 'cross')
  }
  figures = tabulate([cell], (METRIC, 'medium/map', 'hard/map'))

  assert figures['metric'].to_list() == [METRIC, 'medium/map']
  assert figures['self'].to_list() == [40.0, 70.0]


def test_a_metric_that_was_not_taken_is_refused_with_those_that_were():
  with pytest.raises(InputError, match=r"no 'map'.*private/map@100"):
    tabulate([make_cell()], ('map',))


def test_cells_of_one_data_set_are_not_shown_by_different_metrics():
  other = make_cell(seed=1)
  for figures in other.figures['glyphs'].values():
    figures['map'] = figures.pop(METRIC)

  with pytest.raises(InputError, match=r"seed 1, glyphs: no 'private/map@100'"):
    tabulate([make_cell(), other], (METRIC, 'map'))


@pytest.mark.parametrize('side', ['old', 'self', 'cross'])
def test_a_cell_without_a_side_is_refused(side):
  cell = make_cell()
  del cell.figures['glyphs'][side]

  with pytest.raises(InputError, match='judge the cell again'):
    tabulate([cell], METRICS)
