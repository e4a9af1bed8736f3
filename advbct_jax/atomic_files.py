"""Files that are there whole or not at all."""

import os
import pathlib


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file, which a kill cannot leave half written.

  Args:
    path: of the file; what is there is replaced.
    text: what it shall hold, in UTF-8.

  Raises:
    OSError: if it cannot be written; it names the file.
  """
  # A name of its own for each process that may be writing the same file.
  unfinished = path.with_name(f'{path.name}.{os.getpid()}.unfinished')
  try:
    unfinished.write_text(text, encoding='utf-8')
    os.replace(unfinished, path)
  except OSError as error:
    # A disk that is full, or breaks, is told of without any name.
    error.filename = error.filename or str(path)
    raise
  finally:
    unfinished.unlink(missing_ok=True)
