import os
import subprocess
import sys

import pytest

from advbct_jax.errors import InputError
from advbct_jax.line_files import read_foreign_lines, read_lines, write_lines

# What ends a line for somebody: str.splitlines, universal newlines, NumPy.
ODD = [
  'a b',
  'π/ß.jpg',
  'x\x0cy\x0bz',
  'x\x1cy\x1dz\x1e',
  'x\x85y',
  'x\u2028y\u2029z',
  'x\ry',
  'ends\r',
  '\ufeffmarked',
  'nul\0',
  ' ',
  '',
  '𝔘',
  'e\u0301',
]


def test_any_text_without_a_line_feed_is_read_back(tmp_path):
  write_lines(tmp_path / 'ids.txt', ODD)
  assert read_lines(tmp_path / 'ids.txt') == ODD
  assert list(tmp_path.iterdir()) == [tmp_path / 'ids.txt']


@pytest.mark.parametrize('odd', ODD)
def test_a_single_odd_text_is_read_back(tmp_path, odd):
  write_lines(tmp_path / 'ids.txt', [odd])
  assert read_lines(tmp_path / 'ids.txt') == [odd]


def test_lines_are_utf_8_whatever_the_machines_language(tmp_path):
  code = (
    'import pathlib, sys; from advbct_jax.line_files import *; '
    'write_lines(pathlib.Path(sys.argv[1]), ["\\u03c0"]); '
    'assert read_lines(pathlib.Path(sys.argv[1])) == ["\\u03c0"]'
  )
  subprocess.run(
    [sys.executable, '-X', 'utf8=0', '-c', code, tmp_path / 'ids.txt'],
    env=os.environ | {'LC_ALL': 'C', 'PYTHONCOERCECLOCALE': '0'},
    check=True,
  )
  assert (tmp_path / 'ids.txt').read_bytes() == 'π\n'.encode()


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (['a', 'b\nc'], 'line 2, has a line feed'),
    (['a', 'caf\udce9'], 'no text'),
  ],
)
def test_what_is_no_line_is_refused_and_what_was_there_stays(
  tmp_path, lines, message
):
  path = tmp_path / 'ids.txt'
  write_lines(path, ['there'])
  with pytest.raises(InputError, match=message):
    write_lines(path, lines)
  assert read_lines(path) == ['there']
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  ('content', 'lines'),
  [
    (b'a\nb\n', ['a', 'b']),
    (b'a\nb', ['a', 'b']),
    (b'a\r\nb\r\n', ['a', 'b']),
    (b'a\r\nb', ['a', 'b']),
    (b'a\r\n', ['a']),
    (b'\xef\xbb\xbfa\r\n\r\n', ['a', '']),
    (b'\xef\xbb\xbfa\n', ['a']),
    ('a\x85b\u2028c\rd\n'.encode(), ['a\x85b\u2028c\rd']),
    (b'\n\n', ['', '']),
    (b'', []),
  ],
)
def test_lines_of_anyones_editor_are_read(tmp_path, content, lines):
  (tmp_path / 'ids.txt').write_bytes(content)
  assert read_foreign_lines(tmp_path / 'ids.txt') == lines


def test_ends_of_two_kinds_are_refused_with_a_line_of_each(tmp_path):
  (tmp_path / 'ids.txt').write_bytes(b'a\nb\r\nc\n')
  with pytest.raises(InputError, match=r'line 2 ends in a carriage .* line 1'):
    read_foreign_lines(tmp_path / 'ids.txt')


@pytest.mark.parametrize('read', [read_lines, read_foreign_lines])
def test_what_is_not_utf_8_is_refused_with_its_name(tmp_path, read):
  for name, content in (('latin1', b'caf\xe9\n'), ('utf16', 'a'.encode('u16'))):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f'{name}: cannot be read as lines'):
      read(tmp_path / name)
  with pytest.raises(InputError, match='missing: cannot be read'):
    read(tmp_path / 'missing')
