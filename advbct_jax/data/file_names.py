"""Names of files, which a disk holds as bytes, not as text."""

import os
import pathlib


def printable(path: str | pathlib.Path) -> str:
  r"""Writes a path so that it can be printed and stored as UTF-8.

  A name in another encoding, such as Latin-1 from an old archive, reaches
  Python with lone surrogates in it, which no output takes.

  Args:
    path: as Python has it.

  Returns:
    The path, with `\x…` for every byte that is not UTF-8.

  >>> printable('caf\udce9.jpg')
  'caf\\xe9.jpg'
  """
  return os.fsencode(path).decode('utf-8', 'backslashreplace')
