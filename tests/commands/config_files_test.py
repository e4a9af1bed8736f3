"""How a command finds its config, in the repository and installed."""

import os
import pathlib
import subprocess
import sys

import pytest

from advbct_jax.commands.config_files import (
  find_config,
  shipped_configs,
  shipped_folder,
)
from advbct_jax.errors import InputError

_REPOSITORY = pathlib.Path(__file__).parents[2]

# A config of the user's, whose siblings and base are imported by name.
_MINE = """
from configs import base, theirs

def get_config():
  config = base.get_config()
  config.epochs = theirs.EPOCHS
  return config
"""
_PRINT_EPOCHS = """
import importlib.util, sys
from advbct_jax.commands.config_files import find_config
path = find_config(sys.argv[1])
spec = importlib.util.spec_from_file_location('config', path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(path, module.get_config().get('epochs'))
"""


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """A folder with what a wheel installs."""
  folder = tmp_path_factory.mktemp('installed')
  subprocess.run(
    [
      *(sys.executable, 'setup.py', '-q', 'egg_info'),
      *(f'--egg-base={tmp_path_factory.mktemp("egg")}', 'build_py'),
      f'--build-lib={folder}',
    ],
    check=True,
    cwd=_REPOSITORY,
  )
  return folder


def _load(installed, name, cwd, *more_paths):
  """Loads a config in a process that has nothing but what is installed."""
  ran = subprocess.run(
    # Isolated, so that the working directory is not searched for modules.
    [sys.executable, '-P', '-c', _PRINT_EPOCHS, name],
    capture_output=True,
    text=True,
    check=False,
    cwd=cwd,
    env={
      **os.environ,
      'PYTHONPATH': os.pathsep.join(map(str, [installed, *more_paths])),
    },
  )
  assert not ran.returncode, ran.stderr
  path, epochs = ran.stdout.rsplit(maxsplit=1)
  return pathlib.Path(path), epochs


def test_a_wheel_has_every_module_and_config_and_no_other_package(installed):
  def modules(folder):
    return {path.relative_to(folder) for path in folder.rglob('*.py')}

  assert {path.name for path in installed.iterdir()} == {'advbct_jax'}
  package = installed / 'advbct_jax'
  configs = modules(package / 'configs')
  assert configs == modules(_REPOSITORY / 'configs')
  assert modules(package) == modules(_REPOSITORY / 'advbct_jax') | {
    'configs' / path for path in configs
  }


@pytest.mark.parametrize('name', ['configs/demo.py', 'comparison'])
def test_a_shipped_config_is_found_by_its_name_wherever_one_is(
  installed, tmp_path, name
):
  path, _ = _load(installed, name, tmp_path)

  assert path.is_relative_to(installed / 'advbct_jax/configs')


@pytest.mark.parametrize(
  'name', ['demo', 'demo.py', 'configs/demo.py', 'paper/advbct', 'comparison']
)
def test_the_ending_and_the_folder_of_a_shipped_config_may_be_left_out(
  tmp_path, monkeypatch, name
):
  monkeypatch.chdir(tmp_path)
  file = name.removeprefix('configs/').removesuffix('.py') + '.py'
  assert find_config(name) == shipped_folder() / file


def test_a_shipped_config_has_shipped_siblings(installed, tmp_path):
  # Neither the user's nor another project's module of the same name.
  for folder in (tmp_path, tmp_path / 'other'):
    (folder / 'configs').mkdir(parents=True)
    (folder / 'configs/base.py').write_text('raise ImportError')

  path, epochs = _load(installed, 'demo', tmp_path, tmp_path / 'other')

  assert (path.name, epochs) == ('demo.py', '14')


@pytest.mark.parametrize('elsewhere', [False, True])
def test_an_own_config_imports_its_siblings_and_shipped_ones(
  installed, tmp_path, elsewhere
):
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs/mine.py').write_text(_MINE)
  (tmp_path / 'configs/theirs.py').write_text('EPOCHS = 77')
  name = 'configs/mine.py'
  cwd = tmp_path
  if elsewhere:
    name, cwd = str(tmp_path / name), installed

  assert _load(installed, name, cwd)[1] == '77'


def test_an_own_config_may_lie_anywhere(installed, tmp_path):
  text = _MINE.replace(', theirs', '').replace('theirs.EPOCHS', '78')
  (tmp_path / 'mine.py').write_text(text)

  assert _load(installed, 'mine.py', tmp_path)[1] == '78'


def test_an_own_file_goes_before_a_shipped_one(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert find_config('demo.py') == shipped_folder() / 'demo.py'
  (tmp_path / 'demo.py').write_text('')

  assert find_config('demo.py') == pathlib.Path('demo.py')
  assert find_config('demo') == shipped_folder() / 'demo.py'


@pytest.mark.parametrize('name', ['nowhere', '../demo', 'configs', 'configs/'])
def test_a_config_that_is_nowhere_is_refused_with_what_there_is(
  name, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=r'no such file.* demo, ') as refused:
    find_config(name)

  assert all(each in str(refused.value) for each in shipped_configs())


def test_the_name_of_a_shipped_config_names_the_workdir(
  command, tmp_path, monkeypatch
):
  calls = []
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(
    'advbct_jax.experiment.train_and_judge', lambda *call: calls.append(call)
  )
  command('train', '--config=paper/advbct', '--config.epochs=5')

  ((config, workdir),) = calls
  assert (config.epochs, str(workdir)) == (5, 'runs/advbct')


def test_flags_may_have_their_value_behind_a_space(
  command, tmp_path, monkeypatch
):
  calls = []
  monkeypatch.setattr(
    'advbct_jax.experiment.train_and_judge', lambda *call: calls.append(call)
  )
  command(
    *('train', '--config', 'demo', '--workdir', str(tmp_path)),
    *('--config.data.name', 'mine'),
  )

  ((config, workdir),) = calls
  assert (config.data.name, workdir) == ('mine', tmp_path)
