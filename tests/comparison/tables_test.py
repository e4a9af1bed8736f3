import csv
import io
import json
import math
import statistics

import pytest

from advbct_jax.comparison.summary import Sample, pooled_std, summarize
from advbct_jax.comparison.tables import csv_text, json_text, markdown
from advbct_jax.errors import InputError
from advbct_jax.retrieval.scores import upgrade_scores
from tests.comparison.made_up_cells import (
  METRIC,
  METRICS,
  make_cell,
  make_grid,
)


def _row(cells, method='advbct', start='fresh'):
  (row,) = [
    row
    for row in summarize(cells, METRICS)
    if (row.method, row.start) == (method, start)
  ]
  return row


def _lines(text):
  """The body of a Markdown table, by method and start."""
  lines = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.splitlines()
    if line.startswith('|') and '---' not in line
  ]
  return lines[0], {(line[0], line[1]): line[2:] for line in lines[1:]}


def test_figures_are_averaged_over_seeds_with_the_sample_deviation():
  row = _row([make_cell(seed=s, cross=c) for s, c in ((2, 36.0), (1, 32.0))])

  cross = row.figures['glyphs']['cross']
  assert row.seeds == (1, 2)
  assert cross.values == (32.0, 36.0)
  assert cross.mean == 34.0
  assert cross.std == pytest.approx(math.sqrt(8))
  assert cross.text() == '34.0 ± 2.8'


def test_a_single_seed_has_no_deviation():
  assert _row([make_cell()]).figures['glyphs']['self'].text() == '40.0'


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
  (row,) = [row for row in summarize(cells, METRICS) if row.method == 'advbct']

  by_seed = [
    upgrade_scores([30.0], [40.0], [35.0], [reference])
    for reference in (60.0, 50.0)
  ]
  for name, sample in row.scores.items():
    assert sample.values == tuple(scores[name] for scores in by_seed)
    assert sample.std == statistics.stdev(scores[name] for scores in by_seed)


def test_scores_are_over_all_data_sets():
  reference = make_cell('independent', self_test=60.0, datasets=('a', 'b'))
  cell = make_cell(datasets=('a', 'b'))
  cell.figures['b']['cross'][METRIC] = 20.0

  expected = upgrade_scores([30.0] * 2, [40.0] * 2, [35.0, 20.0], [60.0] * 2)
  scores = _row([reference, cell]).scores
  assert {name: s.mean for name, s in scores.items()} == pytest.approx(expected)


def test_seeds_without_an_independent_encoder_get_no_scores_and_it_is_said():
  cells = [
    make_cell('independent', seed=0, self_test=60.0),
    make_cell(seed=0),
    make_cell(seed=1),
    make_cell('bct', seed=1),
  ]
  text = markdown(summarize(cells, METRICS))

  _, lines = _lines(text)
  assert _row(cells).scores['p_1'].n == 1
  assert lines['BCT', 'fresh'][-3:] == ['–'] * 3
  assert 'Scores of AdvBCT (fresh): 1 of 2 seeds only.' in text


def test_undefined_scores_are_left_out():
  cells = [make_cell('independent', self_test=30.0), make_cell()]

  assert _row(cells).scores == {}
  text = markdown(summarize(cells, METRICS))
  assert _lines(text)[1]['AdvBCT', 'fresh'][-3:] == ['–'] * 3
  assert 'P_comp says nothing about this data set' in text


def test_rows_follow_the_given_order_and_the_independent_encoder_leads():
  cells = [
    make_cell(method, start)
    for method, start in (
      ('zbct', 'fresh'),
      ('advbct', 'fresh'),
      ('l2', 'fresh'),
      ('l2', 'old'),
      ('independent', 'ridge'),
      ('independent', 'fresh'),
    )
  ]
  rows = summarize(cells, METRICS, ['l2', 'advbct'], ['old', 'ridge', 'fresh'])

  assert [(row.method, row.start) for row in rows] == [
    ('independent', 'fresh'),
    ('independent', 'ridge'),
    ('l2', 'old'),
    ('l2', 'fresh'),
    ('advbct', 'fresh'),
    ('zbct', 'fresh'),
  ]


def test_the_table_begins_with_the_old_encoder_and_has_one_column_a_figure():
  cells = [
    make_cell('independent', datasets=('a', 'b'), self_test=50.0),
    make_cell(datasets=('a', 'b')),
  ]
  head, lines = _lines(markdown(summarize(cells, METRICS)))

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
  _, lines = _lines(markdown(summarize(cells, METRICS)))

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
  text = markdown(summarize(cells, METRICS))

  _, lines = _lines(text)
  assert lines['AdvBCT', 'fresh'][0] == '**40.0 ± 1.0**'
  assert lines['BCT', 'fresh'][0] == '<u>39.2 ± 1.0</u> †'
  assert lines['LCE', 'fresh'][0] == '38.8 ± 1.0'
  assert '† marks those within one pooled standard deviation' in text


def test_deviations_are_pooled_by_their_degrees_of_freedom():
  one, other = Sample((0.0, 2.0)), Sample((5.0, 5.0, 5.0))

  # (1·2 + 2·0)/3.
  assert pooled_std(one, other) == pytest.approx(math.sqrt(2 / 3))
  assert pooled_std(Sample((1.0,)), Sample((2.0,))) is None


def test_the_number_of_seeds_is_in_the_caption_or_where_it_differs_a_column():
  even = markdown(summarize(make_grid(seeds=3), METRICS))
  uneven = markdown(
    summarize([*make_grid(seeds=3), make_cell('l2', 'best')], METRICS)
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
  text = markdown(summarize(cells, METRICS))

  assert text.index('### small') < text.index('### large')
  assert '**31.0**' in text
  assert '**39.0**' in text


def test_csv_has_plain_numbers_in_a_row_for_each_data_set():
  cells = [
    make_cell('independent', seed=0, self_test=50.0, datasets=('a', 'b')),
    *(
      make_cell(seed=seed, cross=cross, datasets=('a', 'b'))
      for seed, cross in ((0, 34.0), (1, 36.0))
    ),
  ]
  lines = list(csv.DictReader(io.StringIO(csv_text(summarize(cells, METRICS)))))

  assert [(line['method'], line['dataset']) for line in lines] == [
    ('independent', 'a'),
    ('independent', 'b'),
    ('advbct', 'a'),
    ('advbct', 'b'),
  ]
  last = lines[-1]
  assert (last['n'], last['scores_n']) == ('2', '1')
  assert float(last['cross_mean']) == 35.0
  assert float(last['cross_std']) == pytest.approx(math.sqrt(2), abs=1e-6)
  assert last['p_up_std'] == ''
  assert lines[0]['cross_std'] == ''


def test_json_holds_the_records_of_the_csv():
  rows = summarize(make_grid(), METRICS)

  from_json = json.loads(json_text(rows))['rows']
  from_csv = list(csv.DictReader(io.StringIO(csv_text(rows))))

  assert len(from_json) == len(rows) == len(from_csv)
  for one, other in zip(from_json, from_csv, strict=True):
    assert list(one) == list(other)
    assert one['cross_mean'] == pytest.approx(float(other['cross_mean']))


def test_no_cells_give_no_tables():
  assert summarize([], METRICS) == []
  assert markdown([]) == csv_text([]) == ''


@pytest.mark.parametrize(
  ('cells', 'message'),
  [
    ([make_cell(), make_cell()], 'is there twice'),
    ([make_cell(), make_cell(seed=1, datasets=('b',))], 'same data sets'),
    ([make_cell(cross=math.nan)], 'cross is nan'),
  ],
)
def test_cells_that_do_not_go_together_are_refused(cells, message):
  with pytest.raises(InputError, match=message):
    summarize(cells, METRICS)


def test_each_data_set_is_shown_by_the_first_metric_that_it_has():
  cell = make_cell(datasets=('glyphs', 'roxford5k'))
  cell.figures['roxford5k'] = {
    side: {'hard/map': 1.0, 'medium/map': 70.0}
    for side in ('old', 'self', 'cross')
  }
  rows = summarize([cell], (METRIC, 'medium/map', 'hard/map'))

  assert rows[0].metrics == {'glyphs': METRIC, 'roxford5k': 'medium/map'}
  assert rows[0].figures['roxford5k']['self'].values == (70.0,)
  text = markdown(rows)
  assert f'`{METRIC}` of glyphs, `medium/map` of roxford5k in percent' in text
  records = json.loads(json_text(rows))['rows']
  assert [record['metric'] for record in records] == [METRIC, 'medium/map']


def test_a_metric_that_was_not_taken_is_refused_with_those_that_were():
  with pytest.raises(InputError, match=r"no 'map'.*private/map@100"):
    summarize([make_cell()], ('map',))


def test_a_cell_without_a_side_is_refused():
  cell = make_cell()
  del cell.figures['glyphs']['cross']

  with pytest.raises(InputError, match='Judge the cell again'):
    summarize([cell], METRICS)
