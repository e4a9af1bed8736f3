"""README and docs: code runs, command lines parse, fields and links exist."""

import ast
import importlib
import importlib.util
import itertools
import pathlib
import re
import shlex
from typing import NamedTuple

from ml_collections.config_flags import config_path
import pytest

from advbct_jax.commands import COMMANDS
from configs import base, chain_vectors, comparison

_REPOSITORY = pathlib.Path(__file__).parents[1]
_PAGES = [
  _REPOSITORY / 'README.md',
  _REPOSITORY / 'CONTRIBUTING.md',
  *sorted((_REPOSITORY / 'docs').glob('*.md')),
]
_CONFIGS = sorted((_REPOSITORY / 'configs').rglob('*.py'))
# What is no program of ours and is left to those whose it is.
_OTHERS = ('cd', 'find', 'awk', 'echo', 'mypy', 'pip', 'ruff')
# `python -m` of a module is the command.
_MODULES = {
  'advbct_jax': '',
  'advbct_jax.adapters': 'adapters',
  'advbct_jax.comparison': 'tables',
  'advbct_jax.convert': 'convert',
  'advbct_jax.data.prepare': 'prepare',
  'advbct_jax.drawn_landmarks': 'prepare landmarks',
  'advbct_jax.embed': 'embed',
}


class Block(NamedTuple):
  """A block of code in a page."""

  page: pathlib.Path
  language: str
  text: str


def _read_blocks(page):
  """The fenced blocks of a page; indented ones of commands are shell, too."""
  text = page.read_text()
  fences = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
  blocks = [Block(page, *found.groups()) for found in fences.finditer(text)]
  indented = re.findall(r'(?<=\n\n)((?: {4}.*\n)+)', fences.sub('', text))
  return blocks + [
    Block(page, 'sh', re.sub(r'^ {4}', '', block, flags=re.MULTILINE))
    for block in indented
    if re.match(r' *(python|advbct|pip) ', block)
  ]


def _read_lines(page):
  """The command lines of a page: those of its blocks, and those in its text."""
  for block in _read_blocks(page):
    if block.language == 'sh':
      yield from re.sub(r'\\\n *', '', block.text).splitlines()
  prose = re.sub(r'^```.*?^```$', '', page.read_text(), flags=re.M | re.S)
  for span in re.findall(r'`([^`]+)`', prose):
    line = ' '.join(span.split())
    if re.fullmatch(r'(advbct|python [a-z]+\.py)( [a-z][a-z-]*)*', line):
      yield f'{line} --help'  # its name alone
    elif re.match(r'(python|advbct) ', line):
      yield line


def _read_docstring_lines(config):
  """The command lines of a config's docstring."""
  text = ast.get_docstring(ast.parse(config.read_text())) or ''
  for line in re.sub(r'\\\n *', '', text).splitlines():
    if re.match(r' +(python|advbct) ', line):
      yield line.strip()


_LINES = [
  pytest.param(line, id=f'{path.name}: {line[:60]}')
  for path in (*_PAGES, *_CONFIGS)
  for line in (
    _read_lines(path) if path.suffix == '.md' else _read_docstring_lines(path)
  )
]


def _check_script(path, arguments):
  """A script of the repository: it is there and speaks of these flags."""
  text = (_REPOSITORY / path).read_text()
  for argument in arguments:
    if argument.startswith('--'):
      assert argument.partition('=')[0] in text, f'{path}: {argument}'


def _check_command(words):
  """One command: it is known, and its line can be read."""
  match words:
    case ['advbct', '--help']:
      raise SystemExit(0)
    case ['advbct', name, *rest]:
      assert name in COMMANDS
      importlib.import_module(f'advbct_jax.commands.{name}').parse(rest)
    case ['srun', *rest]:
      flags = itertools.takewhile(lambda word: word.startswith('--'), rest)
      _check_command(rest[len([*flags]) :])
    case ['python', '-m', 'pytest', *_]:
      pass
    case ['python', '-m', module, *rest] if module in _MODULES:
      _check_command(['advbct', *_MODULES[module].split(), *rest])
    case ['python', '-m', module, *rest]:
      _check_script(module.replace('.', '/') + '.py', rest)
    case ['python', script, *rest] if script.removesuffix('.py') in COMMANDS:
      assert (_REPOSITORY / script).exists()
      _check_command(['advbct', script.removesuffix('.py'), *rest])
    case ['python', script, *rest]:
      _check_script(script, rest)
    case [program, *_]:
      assert program in _OTHERS, f'{program}: nobody knows how to check it'


@pytest.mark.filterwarnings('ignore:the load_module')
@pytest.mark.parametrize('line', _LINES)
def test_a_command_line_can_be_read(line, monkeypatch):
  monkeypatch.chdir(_REPOSITORY)
  for command in re.split(r' (?:&&|\|) ', line):
    words = shlex.split(command, comments=True)
    if words[-1:] == ['--help']:
      with pytest.raises(SystemExit, match=r'^0$'):
        _check_command(words)
    else:
      _check_command(words)


@pytest.mark.parametrize('page', _PAGES, ids=lambda page: page.name)
def test_python_code_runs(page, example_folder):
  """One block after the other, as a reader would type them.

  Where a module is asked for that is no dependency, the block compiles.
  """
  names = {}
  for number, block in enumerate(_read_blocks(page)):
    if block.language != 'python':
      continue
    code = compile(block.text, f'{page.name}, block {number}', 'exec')
    modules = {
      name.partition('.')[0]
      for node in ast.walk(ast.parse(block.text))
      for name in (
        [alias.name for alias in node.names]
        if isinstance(node, ast.Import)
        else [node.module]
        if isinstance(node, ast.ImportFrom)
        else []
      )
    }
    if all(importlib.util.find_spec(name) for name in modules):
      exec(code, names)


@pytest.mark.parametrize('page', _PAGES, ids=lambda page: page.name)
def test_fields_of_the_config_that_a_page_names_are_there(page):
  fields = re.findall(r'\bconfig((?:\.\w+)+)(?!\()', page.read_text())
  for field in {field[1:] for field in fields} - {'json'}:
    config = base.get_config()
    if field.startswith(('steps', 'tied_to')):
      config = chain_vectors.get_config()
    elif field.split('.')[0] in ('base', 'methods', 'upgrades', 'starts'):
      config = comparison.get_config()
    config_path.get_value(field, config)


@pytest.mark.parametrize('page', _PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
  for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
    if target.startswith('http'):
      continue
    path, _, heading = target.partition('#')
    there = page.parent / path if path else page
    assert there.exists(), target
    if heading:
      titles = re.findall(r'^#+ (.*)$', there.read_text(), re.MULTILINE)
      anchors = [
        re.sub(r'[^\w -]', '', title).lower().replace(' ', '-')
        for title in titles
      ]
      assert heading in anchors, target


def test_every_page_is_listed_in_the_readme():
  readme = (_REPOSITORY / 'README.md').read_text()
  for page in (_REPOSITORY / 'docs').glob('*.md'):
    assert f'(docs/{page.name})' in readme


def test_the_readme_is_short_and_has_the_two_commands_and_a_search():
  readme = (_REPOSITORY / 'README.md').read_text()
  assert len(readme.splitlines()) <= 170
  for command in (
    'pip install -e . && python train.py --config=configs/demo.py',
    "pip install -e '.[test]' && python -m pytest",
  ):
    assert command in readme
  (search,) = (
    block.text
    for block in _read_blocks(_REPOSITORY / 'README.md')
    if block.language == 'python'
  )
  assert '.search(' in search
  assert len(search.splitlines()) <= 10


def test_pages_have_blocks_that_are_looked_at():
  """The tests above look for blocks; were there none, they would all pass."""
  blocks = [block for page in _PAGES for block in _read_blocks(page)]
  known = {'python', 'sh', 'text', 'mermaid', 'bibtex', 'json', 'csv'}

  assert {block.language for block in blocks} <= known
  assert sum(block.language == 'python' for block in blocks) > 5
  assert len(_LINES) > 50


@pytest.mark.filterwarnings('ignore:the load_module')
@pytest.mark.parametrize(
  'line',
  [
    'advbct trian --config=demo',
    'advbct train --config=demo --config.epoch=3',
    'advbct train --config=nowhere',
    'advbct evaluate --new=x --data=y --batch-size=3',
    'python -m advbct_jax.convert to-store x.npy',
    'python evaluate.py --new=x',
    'python -m benchmarks.step_cost --no_such_flag=3',
    'python -m benchmarks.nothing',
    'pyhton train.py',
  ],
)
def test_a_wrong_line_would_be_found(line):
  with pytest.raises((AssertionError, SystemExit, OSError, ValueError)):
    _check_command(shlex.split(line))
