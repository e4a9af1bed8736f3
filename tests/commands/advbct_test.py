"""The command `advbct`, and what all of its commands have in common."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from advbct_jax.commands import COMMANDS, convert, main
from advbct_jax.convert.to_pytorch import ORIGINAL
from advbct_jax.convert.vector_lengths import METRICS
from advbct_jax.data.decoding import RESAMPLINGS
from advbct_jax.data.images import NORMALIZATIONS
from advbct_jax.retrieval.service_index import OPTIONS
from advbct_jax.weights.layouts import LAYOUTS

_REPOSITORY = pathlib.Path(__file__).parents[2]
_SLOW = {
  'faiss',
  'flax',
  'grain',
  'jax',
  'matplotlib',
  'optax',
  'orbax',
  'pandas',
  'pyarrow',
  'scipy',
  'tensorflow_datasets',
  'torch',
}
_SUBCOMMANDS = {
  'convert': (
    'to-pytorch',
    'from-pytorch',
    'subnetworks',
    'to-store',
    'from-store',
    'to-faiss',
  ),
  'adapters': ('fit', 'apply'),
  'prepare': ('own', 'vectors', 'records', 'check', 'landmarks'),
  'refresh': ('plan',),
}
_LINES = [
  *((name,) for name in COMMANDS),
  *((name, sub) for name, subs in _SUBCOMMANDS.items() for sub in subs),
]


def _help(capsys, *line):
  with pytest.raises(SystemExit) as ended:
    main([*line, '--help'])
  assert not ended.value.code
  return capsys.readouterr().out


def test_nothing_that_imports_slowly_is_imported_for_any_help():
  # In one process, for each takes its time to start.
  program = f"""
import contextlib, io, sys
from advbct_jax.commands import main
with contextlib.redirect_stdout(io.StringIO()):
  for line in {[[], *map(list, _LINES)]}:
    with contextlib.suppress(SystemExit):
      main([*line, '--help'])
print(*(name.partition('.')[0] for name in sys.modules))
"""
  ran = subprocess.run(
    [sys.executable, '-c', program],
    capture_output=True,
    text=True,
    check=True,
    env={**os.environ, 'PYTHONPATH': str(_REPOSITORY)},
  )

  assert not _SLOW.intersection(ran.stdout.split())


@pytest.mark.parametrize('arguments', [[], ['--help'], ['-h'], ['help']])
def test_the_commands_are_listed_with_a_line_each(capsys, arguments):
  main(arguments)

  output = capsys.readouterr().out
  for name, text in COMMANDS.items():
    assert re.search(f'^  {name} +{re.escape(text)}$', output, re.MULTILINE)
  assert all(len(line) <= 80 for line in output.splitlines())


def test_an_unknown_command_is_told_what_there_is(capsys):
  with pytest.raises(SystemExit) as ended:
    main(['trian'])

  assert ended.value.code == 2
  error = capsys.readouterr().err
  assert "no command 'trian'" in error
  for name in COMMANDS:
    assert name in error


def test_the_version_is_that_of_the_package(capsys):
  main(['--version'])

  assert re.fullmatch(r'\d+\.\d+\.\d+\n', capsys.readouterr().out)


@pytest.mark.parametrize('line', _LINES, ids=' '.join)
def test_every_command_says_what_it_takes(capsys, line):
  output = _help(capsys, *line)

  assert f'usage: advbct {" ".join(line)}' in output
  # One spelling: underscores in flags, hyphens in names of commands alone.
  flags = re.findall(r'--(?:\[no\])?([\w-]+)', output)
  assert not [flag for flag in flags if '-' in flag]


def test_a_flag_that_several_commands_have_is_spelt_alike(capsys):
  spellings = {}
  for line in _LINES:
    for flag in re.findall(r'--(?:\[no\])?(\w+)', _help(capsys, *line)):
      spellings.setdefault(flag.replace('_', ''), set()).add(flag)

  assert all(len(names) == 1 for names in spellings.values())


@pytest.mark.parametrize(
  ('module', 'command'),
  [
    ('advbct_jax', ''),
    ('advbct_jax.adapters', 'adapters'),
    ('advbct_jax.comparison', 'tables'),
    ('advbct_jax.convert', 'convert'),
    ('advbct_jax.data.prepare', 'prepare'),
    ('advbct_jax.drawn_landmarks', 'prepare landmarks'),
    ('advbct_jax.embed', 'embed'),
    ('train.py', 'train'),
    ('evaluate.py', 'evaluate'),
    ('compare.py', 'compare'),
  ],
)
def test_a_module_and_a_script_are_the_same_command(module, command):
  program = [module] if module.endswith('.py') else ['-m', module]
  ran = subprocess.run(
    [sys.executable, *program, '--help'],
    capture_output=True,
    text=True,
    check=True,
    cwd=_REPOSITORY,
  )

  assert f'usage: advbct {command}'.strip() in ran.stdout


def test_choices_that_are_written_out_are_those_that_there_are():
  assert set(OPTIONS) == set(convert._INDEX_KINDS)
  assert {*LAYOUTS, ORIGINAL} == set(convert._LAYOUTS)
  assert METRICS == convert._METRICS
  assert set(NORMALIZATIONS) == set(convert._NORMALIZATIONS)
  assert set(RESAMPLINGS) == set(convert._RESAMPLINGS)


@pytest.mark.parametrize('name', ['adapters', 'convert', 'prepare'])
def test_the_commands_of_commands_are_all_looked_at(capsys, name):
  listed = re.search(r'{([\w,-]+)}', _help(capsys, name))[1]
  assert tuple(listed.split(',')) == _SUBCOMMANDS[name]
