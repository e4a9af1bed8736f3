"""Finds the file that `--config` names: the user's own or a shipped one.

The configs of the repository's folder `configs/` are installed with the
package. They, and a user's own, import each other as `from configs import base`
wherever they lie.
"""

from collections.abc import Sequence
import importlib
import importlib.util
import pathlib
import sys
import types

from absl import flags
from ml_collections import config_flags

from advbct_jax.commands.parsing import asks_for_help
from advbct_jax.errors import InputError

_PACKAGE = 'configs'


def shipped_folder() -> pathlib.Path:
  """The folder of the configs that come with the package."""
  package = pathlib.Path(__file__).resolve().parents[1]
  installed = package / _PACKAGE
  # In the repository, and where that is installed as editable, it lies beside.
  return installed if installed.is_dir() else package.parent / _PACKAGE


def shipped_configs() -> list[str]:
  """The names of the configs that come with the package.

  >>> 'demo' in shipped_configs(), 'paper/advbct' in shipped_configs()
  (True, True)
  """
  folder = shipped_folder()
  return sorted(
    path.relative_to(folder).with_suffix('').as_posix()
    for path in folder.rglob('[!_]*.py')
  )


def find_config(name: str) -> pathlib.Path:
  """Finds a config by its path or its name, and makes its imports work.

  Args:
    name: a file, or the name of a shipped config: `configs/demo.py`, `demo.py`
      and `demo` are one where there is no such file.

  Raises:
    InputError: if there is neither.
  """
  path = pathlib.Path(name)
  if not path.is_file():
    stem = name.removeprefix(f'{_PACKAGE}/').removesuffix('.py')
    if stem not in shipped_configs():
      raise InputError(
        f'--config={name}: there is no such file, and no config of that name '
        f'comes with advbct_jax; wanted: a file with get_config(), or one of '
        f'{", ".join(shipped_configs())}.'
      )
    path = shipped_folder() / f'{stem}.py'
  _make_importable(path)
  return path


def _make_importable(path: pathlib.Path) -> None:
  """Makes `from configs import …` find a config's siblings and shipped ones.

  Its own folder comes first, if it lies in one called `configs`: no other
  `configs` that Python may find can then take the place of what it means.
  """
  folders = [
    parent for parent in path.resolve().parents if parent.name == _PACKAGE
  ][:1]
  if _PACKAGE in sys.modules or importlib.util.find_spec(_PACKAGE):
    module = importlib.import_module(_PACKAGE)
  else:
    module = sys.modules[_PACKAGE] = types.ModuleType(_PACKAGE)
  found = getattr(module, '__path__', [])
  module.__path__ = list(
    dict.fromkeys(map(str, [*folders, *found, shipped_folder()]))
  )


def define_config(
  values: flags.FlagValues, arguments: Sequence[str], help_text: str
) -> list[str]:
  """Defines the flag `--config`, which is required, and finds its file.

  Args:
    values: a command's flags.
    arguments: its line.
    help_text: what the config is of.

  Returns:
    The line, with the path of the config in the place of its name.

  Raises:
    InputError: if there is no such config.
  """
  arguments = list(arguments)
  for place, argument in enumerate(arguments):
    flag, equals, name = argument.partition('=')
    if flag not in ('--config', '-config'):
      continue
    if not equals:  # --config NAME
      place += 1
      name = ''.join(arguments[place : place + 1])
    # What follows a colon is an argument of get_config.
    file, colon, parameter = name.partition(':')
    if file and not asks_for_help(arguments):
      found = f'{find_config(file)}{colon}{parameter}'
      arguments[place] = f'--config={found}' if equals else found
  config_flags.DEFINE_config_file(
    'config', None, help_text, flag_values=values, sys_argv=arguments
  )
  flags.mark_flag_as_required('config', flag_values=values)
  return arguments


def define_workdir(values: flags.FlagValues) -> None:
  """Defines the flag `--workdir`, of which `default_workdir` is the default."""
  flags.DEFINE_string(
    'workdir',
    None,
    'where everything goes; runs/CONFIG by default',
    flag_values=values,
  )


def default_workdir(values: flags.FlagValues) -> pathlib.Path:
  """`runs/` and the config's name, where results go unless said otherwise."""
  name = config_flags.get_config_filename(values['config'])
  return pathlib.Path('runs', pathlib.Path(name.partition(':')[0]).stem)
