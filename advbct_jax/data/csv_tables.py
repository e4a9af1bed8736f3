"""Tables in CSV files with a header."""

from collections.abc import Iterator, Sequence
import csv
import pathlib
from typing import TextIO

from advbct_jax.errors import InputError, brief_list, brief_reason
from advbct_jax.header_sizes import TO_ALLOW_MORE, largest_header

# One cell of GLDv2's training table lists all images of a landmark and can be
# longer than the 131,072 characters that Python's csv module takes at first.
# A million images are.
_LONGEST_LINE = 2**26


def read_columns(
  path: pathlib.Path, columns: Sequence[str], may_be_empty: bool = False
) -> Iterator[tuple[int, list[str]]]:
  """Reads some columns of a table row by row, and skips empty lines.

  Args:
    path: a CSV file in UTF-8 whose first line names its columns.
    columns: the names of the wanted columns; others may be there too.
    may_be_empty: whether a header alone will do.

  Yields:
    The line number in the file, and the cells in the order of `columns`,
    without the blanks that people put behind commas.

  Raises:
    InputError: if the file is missing, empty, without one of the columns, if
      a row has more or fewer cells than the header, or a line has more than
      2**26 characters, or what `header_sizes` allows.
  """
  if not path.is_file():
    raise InputError(
      f'{path}: no such file. A table with the columns {",".join(columns)} is '
      'wanted here; check the folder, or download the table.'
    )
  longest_line = largest_header(_LONGEST_LINE)
  longest_cell = csv.field_size_limit(longest_line)
  try:
    with path.open(encoding='utf-8-sig', newline='') as file:
      reader = csv.reader(_lines(file, longest_line), strict=True)
      header = [cell.strip() for cell in next(reader, [])]
      places = _find_columns(path, header, columns)
      rows = 0
      for row in reader:
        if not row:
          continue
        if len(row) != len(header):
          raise InputError(
            f'{path}, line {reader.line_num}: found {len(row)} cells, wanted '
            f'{len(header)} ({brief_list(header, ",")}). Mend the row.'
          )
        rows += 1
        yield reader.line_num, [row[place].strip() for place in places]
  except (csv.Error, UnicodeDecodeError) as error:
    raise InputError(
      f'{path}: not a CSV file in UTF-8 ({brief_reason(error)}). Download or '
      'export it again.'
    ) from error
  finally:
    csv.field_size_limit(longest_cell)
  if not rows and not may_be_empty:
    raise InputError(
      f'{path}: found a header and no rows. Download or export it again.'
    )


def _lines(file: TextIO, longest: int) -> Iterator[str]:
  """The lines of a file, of which none fills the memory."""
  while line := file.readline(longest + 1):
    if len(line) > longest:
      raise csv.Error(
        f'a line of more than {longest} characters; {TO_ALLOW_MORE}'
      )
    yield line


def _find_columns(
  path: pathlib.Path, header: Sequence[str], columns: Sequence[str]
) -> list[int]:
  """The places of some columns in the header."""
  if not header:
    raise InputError(
      f'{path}: the file is empty. A table with the columns '
      f'{",".join(columns)} is wanted; download or export it again.'
    )
  missing = [column for column in columns if column not in header]
  if missing:
    raise InputError(
      f'{path}: found the columns {brief_list(header, ",")}, wanted '
      f'{",".join(columns)}. Name the columns in the first line.'
    )
  return [header.index(column) for column in columns]
