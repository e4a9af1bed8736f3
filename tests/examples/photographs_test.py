"""The example's commands are such as there are."""

import importlib
import pathlib
import sys

import pytest

from advbct_jax.commands import COMMANDS
from examples import photographs


@pytest.fixture
def lines(monkeypatch, tmp_path):
  """The commands that the example runs."""
  ran = []
  monkeypatch.setattr(
    photographs, 'run', lambda *words: ran.append([str(word) for word in words])
  )
  monkeypatch.setattr(
    sys, 'argv', ['photographs.py', 'PHOTOS', str(tmp_path / 'out')]
  )
  photographs.main()
  return ran


def test_every_line_is_one_that_its_command_reads(lines):
  for command, *words in lines:
    assert command in COMMANDS
    importlib.import_module(f'advbct_jax.commands.{command}').parse(words)
  assert [line[0] for line in lines] == [
    *('convert', 'embed') * 2,
    'evaluate',
  ]


def test_the_weights_of_the_packages_become_the_two_encoders(lines, tmp_path):
  converted = [line for line in lines if line[0] == 'convert']
  for line, (side, (weights, size)) in zip(
    converted, photographs.ENCODERS.items(), strict=True
  ):
    assert line[2:] == [
      weights,
      str(tmp_path / 'out' / side),
      f'--image_size={size}',
    ]


def test_encoders_that_are_there_are_not_converted_again(lines, tmp_path):
  for side in photographs.ENCODERS:
    (tmp_path / 'out' / side).mkdir()
  before = len(lines)
  photographs.main()
  assert 'convert' not in [line[0] for line in lines[before:]]


def test_a_command_that_fails_ends_the_example(tmp_path, capfd):
  with pytest.raises(SystemExit) as ended:
    photographs.run('embed', pathlib.Path(tmp_path / 'nothing'))
  assert ended.value.code == 2
  assert '$ advbct embed' in capfd.readouterr().out
