import dataclasses
import json

import pytest

from advbct_jax.comparison.results import (
  CellResult,
  leave_out,
  read_results,
  write_results,
)
from advbct_jax.errors import InputError
from tests.comparison.made_up_cells import make_cell, make_grid


def test_what_was_written_is_read_back(tmp_path):
  cells = [*make_grid(), dataclasses.replace(make_cell(seed=9), seconds=1.5)]
  path = tmp_path / 'new' / 'results.json'

  write_results(cells, path)

  assert read_results(path) == cells
  assert [file.name for file in path.parent.iterdir()] == ['results.json']


def test_curves_of_policies_are_read_back_too(tmp_path):
  refresh = {'glyphs': {'auto': {'private/map@100': {'0': 30.0, '100': 40.0}}}}
  cells = [dataclasses.replace(make_cell(), refresh=refresh)]
  write_results(cells, tmp_path / 'results.json')

  assert read_results(tmp_path / 'results.json') == cells


def test_a_file_from_before_there_were_policies_is_read(tmp_path):
  record = dataclasses.asdict(make_cell())
  del record['refresh'], record['seconds']
  (tmp_path / 'results.json').write_text(json.dumps({'cells': [record]}))

  assert read_results(tmp_path / 'results.json') == [make_cell()]


def test_a_cell_lies_in_the_file_as_one_readable_record(tmp_path):
  write_results([make_cell()], tmp_path / 'results.json')

  (record,) = json.loads((tmp_path / 'results.json').read_text())['cells']

  assert (record['method'], record['start'], record['seed']) == (
    'advbct',
    'fresh',
    0,
  )
  assert record['figures']['glyphs']['cross'] == {'private/map@100': 35.0}
  assert record['seconds'] is None


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"cells": [', 'not JSON'),
    ('[]', "no list under 'cells'"),
    ('{"cells": null}', "no list under 'cells'"),
    ('{}', "nothing under 'cells'"),
    ('{"cells": [{"method": "advbct"}]}', 'cell 0 has the fields'),
    ('{"cells": [3]}', 'cell 0 has the fields'),
  ],
)
def test_another_file_is_refused_by_name(tmp_path, text, message):
  path = tmp_path / 'results.json'
  path.write_text(text)

  with pytest.raises(InputError, match=message) as caught:
    read_results(path)

  assert str(path) in str(caught.value)


@pytest.mark.parametrize(
  'change',
  [
    {'seed': '0'},
    {'figures': {'glyphs': 3.0}},
    {'figures': {'glyphs': {'old': 3.0}}},
    {'figures': {'glyphs': {'old': {'map': '31'}}}},
    {'figures': {'glyphs': {'old': {'map': True}}}},
    {'figures': None},
    {'refresh': {'glyphs': {'auto': {'map': {'0': '31'}}}}},
    {'refresh': {'glyphs': {'auto': {'map': 31.0}}}},
    {'seed': True},
  ],
)
def test_a_record_of_the_wrong_kind_is_refused(tmp_path, change):
  record = dataclasses.asdict(make_cell()) | change
  (tmp_path / 'results.json').write_text(json.dumps({'cells': [record]}))

  with pytest.raises(InputError, match='cell 0 holds seed'):
    read_results(tmp_path / 'results.json')


def test_a_missing_file_is_refused(tmp_path):
  with pytest.raises(InputError, match='no such file'):
    read_results(tmp_path / 'results.json')


def test_cells_are_left_out_by_whole_parts_of_their_names():
  cells = [
    CellResult('classes', method, start, 0, {})
    for method, start in (('bct', 'fresh'), ('bct', 'old'), ('advbct', 'old'))
  ]
  assert leave_out(cells, ['bct/old']) == [cells[0], cells[2]]
  assert leave_out(cells, ['bct']) == cells[2:]
  assert leave_out(cells, ['fresh', 'advbct']) == [cells[1]]
  with pytest.raises(InputError, match="'lwf' fits none of the 3 cells; "):
    leave_out(cells, ['lwf'])
  with pytest.raises(InputError, match='leaves no cell'):
    leave_out(cells, ['bct', 'advbct'])
