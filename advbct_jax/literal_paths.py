"""Paths in which brackets are brackets, for Orbax.

Orbax finds what it has written by `directory.glob('ocdbt.process_*')`, and the
paths that it makes of strings take `[…]` in a folder's own name for a pattern
too: it then finds nothing, says so in a warning alone, and leaves a checkpoint
that cannot be read.
"""

from collections.abc import Iterator
import glob
import os
import pathlib
from typing import Any

from etils import epath

from advbct_jax.errors import InputError

# The class of local paths has no public name.
_LocalPath: Any = type(epath.Path('.'))


@epath.register_path_cls
class _LiteralPath(_LocalPath):
  """A local path whose own name is no pattern; Orbax's children of it too."""

  def glob(self, pattern: str) -> Iterator['_LiteralPath']:
    for name in glob.glob(pattern, root_dir=os.fspath(self)):
      yield self / name


def literal_path(path: pathlib.Path | str) -> Any:
  """The absolute path that Orbax shall be given for a folder.

  Args:
    path: of a folder, with whatever characters in it.

  Raises:
    InputError: if it is not UTF-8, which the library below Orbax wants.
  """
  absolute = os.path.abspath(path)
  try:
    absolute.encode()
  except UnicodeEncodeError as error:
    raise InputError(
      f'{os.fsencode(absolute)!r}: the name of this folder is not UTF-8, and '
      'nothing could be read back from it. Choose another name.'
    ) from error
  return _LiteralPath(absolute)
