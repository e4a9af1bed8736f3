import csv

import pytest

from advbct_jax.data.csv_tables import read_columns
from advbct_jax.errors import InputError


def test_cells_come_in_the_order_that_was_asked_for(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_text('a,b,c\n1,2,3\n\n"4,5",6,7\n')
  assert list(read_columns(path, ('c', 'a'))) == [
    (2, ['3', '1']),
    (4, ['7', '4,5']),
  ]


def test_a_byte_order_mark_and_windows_lines_are_no_part_of_a_cell(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_bytes(b'\xef\xbb\xbfid,x\r\n1,2\r\n')
  assert list(read_columns(path, ('id', 'x'))) == [(2, ['1', '2'])]


def test_blanks_around_a_cell_are_no_part_of_it(tmp_path):
  path = tmp_path / 'table.csv'
  path.write_text('path, label\na b.jpg,\u00a0owl\nc.jpg ,"\towl "\n')
  assert list(read_columns(path, ('path', 'label'))) == [
    (2, ['a b.jpg', 'owl']),
    (3, ['c.jpg', 'owl']),
  ]


def test_a_cell_may_be_longer_than_the_csv_module_takes_at_first(tmp_path):
  limit = csv.field_size_limit()
  path = tmp_path / 'table.csv'
  path.write_text('id\n' + 'x' * (limit + 1) + '\n')
  [(_, [cell])] = read_columns(path, ('id',))
  assert len(cell) == limit + 1
  assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'the file is empty'),
    (b'id,images\n', 'a header and no rows'),
    (b'id,pictures\n1,2\n', 'found the columns id,pictures, wanted id,images'),
    (b'id,images\n1,2\n3\n', 'line 3: found 1 cells, wanted 2'),
    (b'id,images\n1,2,3\n', 'line 2: found 3 cells, wanted 2'),
    (b'id,images\n\xff,2\n', 'not a CSV file in UTF-8'),
    (b'id,images\n"1,2\n', 'not a CSV file in UTF-8'),
  ],
)
def test_a_malformed_table_is_refused(tmp_path, content, message):
  path = tmp_path / 'table.csv'
  path.write_bytes(content)
  with pytest.raises(InputError, match=message) as error:
    list(read_columns(path, ('id', 'images')))
  assert str(path) in str(error.value)


def test_a_missing_table_is_named(tmp_path):
  with pytest.raises(InputError, match=r'gone\.csv: no such file'):
    list(read_columns(tmp_path / 'gone.csv', ('id',)))
