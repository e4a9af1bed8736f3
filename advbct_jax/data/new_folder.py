"""Folders that appear under their name when they are whole."""

from collections.abc import Iterator
import contextlib
import pathlib
import shutil

from advbct_jax.errors import InputError
from advbct_jax.locks import hold_name


@contextlib.contextmanager
def new_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes a folder that is renamed to its final name at the end.

  It is filled as `PATH.incomplete` beside it. What a killed run has left there
  is removed first; what a failed run has, at once. One process at a time makes
  a folder of a name.

  Args:
    path: the final name.

  Yields:
    The folder to fill.

  Raises:
    InputError: if there is something of the final name already, or another
      process is making it.
  """
  with hold_name(path, 'makes the folder'):
    if path.exists():
      raise InputError(
        f'{path}: is there already, and nothing is ever written over. Choose '
        'another name, or remove it.'
      )
    unfinished = path.with_name(f'{path.name}.incomplete')
    if unfinished.exists():
      shutil.rmtree(unfinished)
    unfinished.mkdir()
    try:
      yield unfinished
      unfinished.rename(path)
    except BaseException:
      shutil.rmtree(unfinished, ignore_errors=True)
      raise
