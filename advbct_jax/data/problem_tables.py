"""What a check found wrong with the images of a data set, as a CSV file."""

from collections.abc import Iterable
import csv
import dataclasses
import io
import pathlib

from advbct_jax.atomic_files import write_text
from advbct_jax.data.csv_tables import read_columns
from advbct_jax.errors import InputError, brief

UNREADABLE = 'unreadable'
TOO_SMALL = 'too_small'
DUPLICATE = 'duplicate'
SHARED = 'shared'
NEAR_DUPLICATE = 'near_duplicate'
NEAR_SHARED = 'near_shared'

# What each means, in the order that they are told in.
PROBLEMS = {
  UNREADABLE: 'missing, broken, no picture, or of too many pixels',
  TOO_SMALL: 'of too few pixels a side',
  DUPLICATE: 'the same bytes as an earlier image',
  SHARED: 'a training image with the same bytes as one to be judged on',
  NEAR_DUPLICATE: 'looks like an earlier image',
  NEAR_SHARED: 'a training image that looks like one to be judged on',
}


@dataclasses.dataclass(frozen=True)
class Problem:
  """One line of the table.

  Attributes:
    part: of the data set, such as `train`.
    id: of the image.
    problem: a key of `PROBLEMS`.
    other: PART/ID of the image that it is the same as; '' where there is none.
    detail: what there is to say besides.
  """

  part: str
  id: str
  problem: str
  other: str = ''
  detail: str = ''


_COLUMNS = tuple(field.name for field in dataclasses.fields(Problem))


def write_problems(path: pathlib.Path, problems: Iterable[Problem]) -> None:
  """Writes a table, whole or not at all; one that is there is replaced.

  Args:
    path: of the CSV file.
    problems: its lines.

  Raises:
    OSError: if it cannot be written.
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(_COLUMNS)
  writer.writerows(map(dataclasses.astuple, problems))
  write_text(path, text.getvalue())


def read_problems(path: pathlib.Path) -> list[Problem]:
  """Reads a table.

  Args:
    path: of the CSV file.

  Raises:
    InputError: if it is none, or names a problem that there is not.
  """
  problems = []
  for line, cells in read_columns(path, _COLUMNS, may_be_empty=True):
    problem = Problem(*cells)
    if problem.problem not in PROBLEMS:
      raise InputError(
        f'{path}, line {line}: found the problem {brief(problem.problem)}, '
        f'wanted one of {", ".join(PROBLEMS)}. Make the table by '
        'advbct prepare check.'
      )
    problems.append(problem)
  return problems
