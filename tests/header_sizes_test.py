"""How much readers take of what files say of themselves."""

import json
import pickle

import pytest

from advbct_jax import header_sizes
from advbct_jax.data.csv_tables import read_columns
from advbct_jax.data.plain_pickles import read_plain_pickle
from advbct_jax.errors import InputError
from advbct_jax.experiment import settle_vectors
from advbct_jax.header_sizes import VARIABLE, allow_headers, largest_header
from advbct_jax.typed_json import read_json
from tests.tiny_upgrade import tiny_config


@pytest.fixture
def allow(monkeypatch):
  """Sets the bound of a config for one test."""
  monkeypatch.setattr(header_sizes, '_allowed', 0)
  return allow_headers


def test_a_reader_has_its_own_bound(allow):
  assert largest_header(5) == 5


def test_the_config_goes_before_the_environment(allow, monkeypatch):
  monkeypatch.setenv(VARIABLE, '6')
  assert largest_header(5) == 6
  allow(7)
  assert largest_header(5) == 7


def test_the_config_of_a_run_sets_it_before_files_are_opened(allow, tmp_path):
  allow(5)
  config = tiny_config(tmp_path)
  config.data.max_header_bytes = 9
  settle_vectors(config, tmp_path)
  assert largest_header(7) == 9


def test_a_config_says_a_number_of_bytes(allow):
  with pytest.raises(InputError, match='max_header_bytes is -1; wanted'):
    allow(-1)


@pytest.mark.parametrize('value', ['0', '-1', '1e6', 'much', '²', '9' * 5000])
def test_the_environment_says_a_number_of_bytes(allow, monkeypatch, value):
  monkeypatch.setenv(VARIABLE, value)
  with pytest.raises(InputError, match=f'{VARIABLE} is .*wanted: a number'):
    largest_header(5)


def read_table(path):
  return list(read_columns(path, ['a']))


READERS = {
  'json': (read_json, json.dumps(['x' * 40]).encode()),
  'pickle': (read_plain_pickle, pickle.dumps(['x' * 40])),
  'table': (read_table, b'a\n' + b'x' * 40 + b'\n'),
}


@pytest.mark.parametrize('kind', READERS)
def test_each_reader_keeps_to_it_and_says_how_to_change_it(
  allow, tmp_path, kind
):
  read, written = READERS[kind]
  path = tmp_path / 'file'
  path.write_bytes(written)
  allow(100)
  assert read(path)
  allow(30)
  with pytest.raises(ValueError, match='max_header_bytes'):
    read(path)
