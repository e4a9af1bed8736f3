r"""Files of texts, one a line: ids and labels.

Line feeds alone end a line, and UTF-8 it is whatever the machine's language, so
that any text without a line feed is read back as it was: one with a carriage
return, too, or with one of Unicode's other ends of a line (U+0085, U+2028).
"""

from collections.abc import Iterable
import os
import pathlib

from advbct_jax.errors import InputError


def read_lines(path: pathlib.Path) -> list[str]:
  """Reads what `write_lines` has written.

  Args:
    path: of the file.

  Returns:
    Its lines; the last one may have no line feed.

  Raises:
    InputError: if it cannot be read, or is not UTF-8.
  """
  try:
    with path.open(encoding='utf-8', newline='\n') as file:
      return [line.removesuffix('\n') for line in file]
  except (OSError, UnicodeError) as error:
    raise InputError(
      f'{path}: cannot be read as lines in UTF-8 ({error}). Fetch or make it '
      'again.'
    ) from error


def read_foreign_lines(path: pathlib.Path) -> list[str]:
  r"""Reads lines as anyone's editor or script may have written them.

  A byte order mark at the start goes. A carriage return goes with the line feed
  behind it where all lines end so, as on Windows.

  Args:
    path: of the file.

  Returns:
    Its lines; the last one may have no line feed.

  Raises:
    InputError: if it cannot be read, is not UTF-8, or if some lines end as on
      Windows and others don't, so that nobody knows what belongs to them.
  """
  lines = read_lines(path)
  if lines:
    lines[0] = lines[0].removeprefix('\ufeff')
  # The last line may have no end.
  ended = lines[:-1] or lines
  returns = [line.endswith('\r') for line in ended]
  if all(returns):
    return [line.removesuffix('\r') for line in lines]
  if any(returns):
    one, other = returns.index(True) + 1, returns.index(False) + 1
    raise InputError(
      f'{path}: line {one} ends in a carriage return and a line feed, line '
      f'{other} in a line feed alone. Wanted: one end for all lines; mend it, '
      "by dos2unix or sed -i 's/\\r$//'."
    )
  return lines


def write_lines(path: pathlib.Path, lines: Iterable[str]) -> None:
  """Writes lines to a file, which a kill cannot leave half written.

  Args:
    path: of the file; what is there is replaced.
    lines: without line feeds.

  Raises:
    InputError: if one has a line feed, or something that is no text.
  """
  unfinished = path.with_name(f'{path.name}.{os.getpid()}.unfinished')
  try:
    # Line by line, for millions of ids are not to be there twice.
    with unfinished.open('w', encoding='utf-8', newline='\n') as file:
      for number, line in enumerate(lines):
        if '\n' in line:
          raise InputError(
            f'{path}: {line!r}, line {number + 1}, has a line feed in it; '
            'wanted one line for each. Mend it where it comes from.'
          )
        file.write(line)
        file.write('\n')
    os.replace(unfinished, path)
  except UnicodeEncodeError as error:
    raise InputError(
      f'{path}: {error.object!r} has something that is no text (a name that is '
      'not UTF-8?). Mend it where it comes from.'
    ) from error
  finally:
    unfinished.unlink(missing_ok=True)
