"""Tables in Markdown, and their flat form."""

import math

import pytest

from advbct_jax.comparison.averages import tabulate
from advbct_jax.comparison.tables import flatten, markdown
from tests.comparison.made_up_cells import (
  METRIC,
  METRICS,
  make_cell,
  make_grid,
)


def _lines(text):
  """The body of a Markdown table, by method and start."""
  lines = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.splitlines()
    if line.startswith('|') and '---' not in line
  ]
  return lines[0], {(line[0], line[1]): line[2:] for line in lines[1:]}


def test_seeds_without_an_independent_encoder_get_no_scores_and_it_is_said():
  cells = [
    make_cell('independent', seed=0, self_test=60.0),
    make_cell(seed=0),
    make_cell(seed=1),
    make_cell('bct', seed=1),
  ]
  text = markdown(tabulate(cells, METRICS))

  _, lines = _lines(text)
  assert lines['BCT', 'fresh'][-3:] == ['–'] * 3
  assert 'Scores of AdvBCT (fresh): 1 of 2 seeds only.' in text


def test_undefined_scores_are_left_out_and_it_is_said_why():
  cells = [make_cell('independent', self_test=30.0), make_cell()]

  head, lines = _lines(text := markdown(tabulate(cells, METRICS)))
  assert head[-2:] == ['glyphs self', 'glyphs cross']
  assert lines['AdvBCT', 'fresh'] == ['**40.0**', '**35.0**']
  assert 'P_comp says nothing about this data set' in text


def test_the_table_begins_with_the_old_encoder_and_has_one_column_a_figure():
  cells = [
    make_cell('independent', datasets=('a', 'b'), self_test=50.0),
    make_cell(datasets=('a', 'b')),
  ]
  head, lines = _lines(markdown(tabulate(cells, METRICS)))

  assert head[2:] == [
    'a self',
    'a cross',
    'b self',
    'b cross',
    'P_up',
    'P_comp',
    'P_1',
  ]
  assert [method for method, _ in lines] == [
    'old encoder',
    'Independent',
    'AdvBCT',
  ]
  assert lines['old encoder', '–'] == [*(['30.0', '–'] * 2), *'–––']


def test_best_and_second_are_marked_among_those_that_compete():
  cells = [
    make_cell('independent', self_test=90.0, cross=90.0),
    make_cell('independent', 'ridge', self_test=45.0, cross=31.0),
    make_cell('advbct', self_test=45.0, cross=33.0),
    make_cell('bct', self_test=44.0, cross=35.0),
    make_cell('lce', self_test=43.0, cross=34.0),
  ]
  _, lines = _lines(markdown(tabulate(cells, METRICS)))

  assert {key[0] + ' ' + key[1]: line[:2] for key, line in lines.items()} == {
    'old encoder –': ['30.0', '–'],
    'Independent fresh': ['90.0', '90.0'],
    'Independent ridge': ['**45.0**', '31.0'],
    'AdvBCT fresh': ['**45.0**', '33.0'],
    'BCT fresh': ['<u>44.0</u>', '**35.0**'],
    'LCE fresh': ['43.0', '<u>34.0</u>'],
  }


def test_rows_within_the_noise_of_the_best_have_a_dagger():
  # Deviations of 1 and 1: 39.2 is within the noise of 40, and 38.8 is not.
  cells = [
    make_cell(method, seed=seed, self_test=mean + shift)
    for method, mean in (('advbct', 40.0), ('bct', 39.2), ('lce', 38.8))
    for seed, shift in enumerate((-1.0, 0.0, 1.0))
  ]
  text = markdown(tabulate(cells, METRICS))

  _, lines = _lines(text)
  assert lines['AdvBCT', 'fresh'][0] == '**40.0 ± 1.0**'
  assert lines['BCT', 'fresh'][0] == '<u>39.2 ± 1.0</u> †'
  assert lines['LCE', 'fresh'][0] == '38.8 ± 1.0'
  assert '† marks those within one pooled standard deviation' in text


def test_the_number_of_seeds_is_in_the_caption_or_where_it_differs_a_column():
  even = markdown(tabulate(make_grid(seeds=3), METRICS))
  uneven = markdown(
    tabulate([*make_grid(seeds=3), make_cell('l2', 'best')], METRICS)
  )

  assert 'over 3 seeds.' in even
  assert 'seeds' not in _lines(even)[0]
  head, lines = _lines(uneven)
  assert head[2] == 'seeds'
  assert lines['L2', 'best'][0] == '1'
  assert lines['AdvBCT', 'fresh'][0] == '3'
  assert 'over 3 seeds' not in uneven


def test_each_upgrade_has_its_own_table_and_its_own_best():
  cells = [
    make_cell(upgrade='small', cross=31.0),
    make_cell(upgrade='large', cross=39.0),
  ]
  text = markdown(tabulate(cells, METRICS))

  assert text.index('### small') < text.index('### large')
  assert '**31.0**' in text
  assert '**39.0**' in text


def test_what_looks_alike_is_best_together():
  cells = [
    make_cell('advbct', self_test=45.04),
    make_cell('bct', self_test=44.96),
    make_cell('lce', self_test=44.94),
  ]
  _, lines = _lines(markdown(tabulate(cells, METRICS)))

  assert [lines[name, 'fresh'][0] for name in ('AdvBCT', 'BCT', 'LCE')] == [
    '**45.0**',
    '**45.0**',
    '<u>44.9</u>',
  ]


def test_a_caption_names_the_metric_of_each_data_set_where_they_differ():
  cell = make_cell(datasets=('glyphs', 'roxford5k'))
  for figures in cell.figures['roxford5k'].values():
    figures['medium/map'] = figures.pop(METRIC)
  text = markdown(tabulate([cell], (METRIC, 'medium/map')))

  assert f'`{METRIC}` of glyphs, `medium/map` of roxford5k in percent' in text


def test_the_flat_form_has_a_line_for_each_row_and_data_set():
  cells = [
    make_cell('independent', seed=0, self_test=50.0, datasets=('a', 'b')),
    *(
      make_cell(seed=seed, cross=cross, datasets=('a', 'b'))
      for seed, cross in ((0, 34.0), (1, 36.0))
    ),
  ]
  lines = flatten(tabulate(cells, METRICS)).to_dict('records')

  assert [(line['method'], line['dataset']) for line in lines] == [
    ('independent', 'a'),
    ('independent', 'b'),
    ('advbct', 'a'),
    ('advbct', 'b'),
  ]
  last = lines[-1]
  assert (last['n'], last['scores_n']) == (2, 1)
  assert last['cross_mean'] == 35.0
  assert last['cross_std'] == pytest.approx(math.sqrt(2))
  assert math.isnan(last['p_up_std'])
  assert math.isnan(lines[0]['cross_std'])
