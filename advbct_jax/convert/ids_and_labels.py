"""The texts of vectors: the id of each image, and its class if it has one."""

from collections.abc import Callable, Iterator, Sequence
import pathlib
import re

from advbct_jax.convert.array_files import read_npy, reading
from advbct_jax.data.csv_tables import read_columns
from advbct_jax.errors import InputError

# What ends a line for a reader, and what NumPy drops from the end of a string.
_FORBIDDEN = re.compile('[\n\r\0]')
# How whoever numbers their classes says that an image has none.
_NO_CLASS = re.compile('-[0-9]+')
_WANTED = '.txt (one a line), .npy (strings or integers) or .csv'

Where = Callable[[int], str]


def read_ids(path: pathlib.Path) -> list[str]:
  """Reads an id a row.

  Args:
    path: a .txt file with one a line, a .npy file of strings or integers, or a
      .csv file with a column `id`.

  Raises:
    InputError: if the file is missing, damaged or of another kind.
  """
  if path.suffix == '.csv':
    return [cells[0] for _, cells in read_columns(path, ['id'])]
  return list(_read_texts(path))


def read_labels(path: pathlib.Path, ids: Sequence[str]) -> list[str]:
  """Reads a label a row; '' is none, and so is a negative integer.

  Args:
    path: a .txt or .npy file in the order of the ids, or a .csv file with the
      columns `id` and `label`, in which an image of no class may be left out.
    ids: [N] unique.

  Returns:
    [N] labels; of a .txt or .npy file as many as it has.

  Raises:
    InputError: if the file is missing, damaged or of another kind, or if it
      speaks of an unknown id, or twice of one.
  """
  if path.suffix != '.csv':
    return classes(_read_texts(path))
  row_of = {image_id: row for row, image_id in enumerate(ids)}
  labels: list[str | None] = [None] * len(ids)
  for line, (image_id, label) in read_columns(path, ['id', 'label']):
    row = row_of.get(image_id)
    if row is None:
      raise InputError(
        f'{path}, line {line}: the id {image_id!r} is that of no vector; '
        'wanted ids of vectors only. Mend the id or take the line out.'
      )
    if labels[row] is not None:
      raise InputError(
        f'{path}, line {line}: the id {image_id!r} comes a second time; wanted '
        'one label an image. Take one of the lines out.'
      )
    labels[row] = label
  return classes(label or '' for label in labels)


def beside(path: pathlib.Path, what: str) -> pathlib.Path:
  """The file of `ids` or `labels` that belongs to a file of vectors."""
  return path.with_suffix(f'.{what}.txt')


def ids_beside(path: pathlib.Path) -> list[str] | None:
  """Reads NAME.ids.txt beside a file of vectors; None without one."""
  ids = beside(path, 'ids')
  return read_ids(ids) if ids.exists() else None


def labels_beside(path: pathlib.Path) -> list[str] | None:
  """Reads NAME.labels.txt beside a file of vectors; None without one."""
  labels = beside(path, 'labels')
  return read_labels(labels, []) if labels.exists() else None


def classes(texts: Iterator[str]) -> list[str]:
  """Labels as a store keeps them.

  Args:
    texts: of N labels; '' or a negative integer, such as -1, for none.

  Returns:
    [N] labels, '' for none. Equal ones are one object: millions are of few
    classes.
  """
  known: dict[str, str] = {}
  labels = []
  for text in texts:
    if text not in known:
      known[text] = '' if _NO_CLASS.fullmatch(text) else text
    labels.append(known[text])
  return labels


def require_ids(ids: Sequence[str], where: Where) -> None:
  """Refuses ids that cannot name one image each.

  Args:
    ids: [N].
    where: says which file and row of it a row is.

  Raises:
    InputError: if one is empty, has a line break, or comes twice.
  """
  for row, image_id in enumerate(ids):
    if not image_id:
      raise InputError(f'{where(row)}: the id is empty. Every image needs one.')
    _require_line('id', image_id, row, where)
  if len(set(ids)) == len(ids):
    return
  first_row: dict[str, int] = {}
  for row, image_id in enumerate(ids):
    if (first := first_row.setdefault(image_id, row)) != row:
      raise InputError(
        f'{where(row)}: the id {image_id!r} is also that of {where(first)}. '
        'Every image has one vector; take one of them out.'
      )


def require_labels(labels: Sequence[str], where: Where) -> None:
  """Refuses labels that would not be one line each.

  Args:
    labels: [N], '' for none.
    where: says which file and row of it a row is.

  Raises:
    InputError: if one has a line break.
  """
  for row, label in enumerate(labels):
    _require_line('label', label, row, where)


def require_equal(
  what: str,
  given: Sequence[str],
  rows: slice,
  own: Sequence[str],
  path: pathlib.Path,
  where: Where,
) -> None:
  """Refuses a list that says otherwise than a file of vectors itself.

  Args:
    what: `ids` or `labels`.
    given: [N] of a file of their own.
    rows: of it, M, that are about the file of vectors.
    own: [M] of the file of vectors.
    path: of `given`.
    where: says which file and row of it a row is.

  Raises:
    InputError: with the first difference.
  """
  for row, there in enumerate(own, rows.start):
    if given[row] != there:
      same = sorted(given[rows]) == sorted(own)
      raise InputError(
        f'{path}: {"another order of" if same else "other"} {what} than with '
        f'the vectors. The first difference: {where(row)} is {there!r}, here '
        f'it is {given[row]!r}. Leave --{what} out, or name the file that '
        'belongs to these vectors.'
      )


def _read_texts(path: pathlib.Path) -> Iterator[str]:
  if not path.is_file():
    raise InputError(f'{path}: no such file. Wanted {_WANTED}.')
  if path.suffix == '.npy':
    yield from read_npy(path).texts()
  elif path.suffix == '.txt':
    with reading(str(path)), path.open(encoding='utf-8-sig') as file:
      for line in file:
        yield line.removesuffix('\n')
  else:
    raise InputError(f'{path}: found {path.suffix!r}, wanted {_WANTED}.')


def _require_line(what: str, text: str, row: int, where: Where) -> None:
  # Some Unicode from UTF-16 cannot be written as UTF-8.
  fine = text.isascii() or text.encode(errors='replace').decode() == text
  if not fine or _FORBIDDEN.search(text):
    raise InputError(
      f'{where(row)}: the {what} {text!r} has a line break or something else '
      'that is no text. A line for each is kept; mend it.'
    )
