"""The files that a comparison leaves behind."""

import json
import pathlib

import pandas as pd
import pytest

from advbct_jax.comparison import plots, refresh_plots
from advbct_jax.comparison.report import write_tables
from advbct_jax.comparison.results import read_results
from tests.comparison.made_up_cells import METRICS, make_cell, make_grid

_DOCS = pathlib.Path(__file__).parents[2] / 'docs'


def test_json_holds_the_records_of_the_csv_with_null_for_nothing(tmp_path):
  cells = [
    make_cell(method, seed=seed, self_test=50.0, cross=20 + seed / 7)
    for method in ('independent', 'advbct')
    for seed in range(3)
  ]
  write_tables([*cells, make_cell('l2', 'best')], METRICS, tmp_path)

  rows = json.loads((tmp_path / 'table.json').read_text())['rows']
  lines = pd.read_csv(tmp_path / 'table.csv')
  assert list(lines) == list(rows[0])
  pd.testing.assert_frame_equal(
    lines, pd.DataFrame(rows), check_dtype=False, atol=1e-6, rtol=0
  )
  assert rows[-1]['start'] == 'best'
  assert rows[-1]['cross_std'] is None
  assert lines['self_mean'].map(str).str.len().max() <= len('50.123456')


@pytest.mark.parametrize(
  ('page', 'name'),
  [
    ('comparison', 'methods'),
    ('comparison', 'other_glyphs'),
    ('comparison', 'advbct_options'),
    ('comparison_vectors', 'texts'),
    ('comparison_vectors', 'photographs'),
    ('comparison_vectors', 'heads_texts'),
    ('comparison_vectors', 'heads_photographs'),
  ],
)
def test_the_documented_tables_are_made_from_the_documented_cells(
  tmp_path, monkeypatch, page, name
):
  monkeypatch.setattr(plots, 'plot_tradeoff', lambda part, path: None)
  monkeypatch.setattr(refresh_plots, 'plot_refresh', lambda part, path: None)
  cells = read_results(_DOCS / page / f'{name}.json')
  text = write_tables(cells, METRICS, tmp_path)

  documented = (_DOCS / f'{page}.md').read_text().splitlines()
  tables = [line for line in text.splitlines() if line.startswith('|')]
  assert [line for line in tables if line not in documented] == []


def test_an_upgrade_in_which_nothing_competes_has_no_plot(tmp_path):
  text = write_tables([make_cell('independent')], METRICS, tmp_path)

  assert 'png' not in text
  assert not list(tmp_path.glob('*.png'))


def test_a_plot_is_the_same_each_time(tmp_path):
  cells = make_grid(1)
  write_tables(cells, METRICS, tmp_path / 'a')
  write_tables(cells, METRICS, tmp_path / 'b')

  one, other = (
    (tmp_path / name / 'extended_class-glyphs.png').read_bytes()
    for name in 'ab'
  )
  assert one == other
