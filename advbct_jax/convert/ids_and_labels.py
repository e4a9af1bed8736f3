"""The texts of vectors: the id of each image, and its class if it has one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import pathlib
import re
import unicodedata

from advbct_jax.convert.array_files import FLOAT_KINDS, TEXT_KINDS, read_npy
from advbct_jax.convert.cards_beside import card_beside
from advbct_jax.data.csv_tables import read_columns
from advbct_jax.data.images import digest_ids
from advbct_jax.errors import InputError, brief
from advbct_jax.line_files import read_foreign_lines, read_lines

# What pandas takes for a missing value or writes for one, in any case.
_NO_CLASS = re.compile(
  r'|n/?a|<na>|#n/?a( n/a)?|-?nan|nat|none|null|-?1\.#(ind|qnan)', re.IGNORECASE
)
# How whoever numbers their classes says that an image has none.
_NEGATIVE = re.compile(r'-\d+')
# A whole number as it looks once it has been a float: 3.0, or 1e+16.
_WHOLE_FLOAT = re.compile(r'-?(0|[1-9]\d*)\.0*|-?[1-9](\.\d+)?e\+\d\d')
_WANTED = '.txt (one a line), .npy (strings or integers) or .csv'

Where = Callable[[int], str]


def read_ids(path: pathlib.Path, column: str = 'id') -> list[str]:
  """Reads an id a row.

  Args:
    path: a .txt file with one a line, a .npy file of strings or integers, or a
      .csv file.
    column: of the ids in a .csv file.

  Raises:
    InputError: if the file is missing, damaged or of another kind.
  """
  if path.suffix == '.csv':
    return [cells[0] for _, cells in read_columns(path, [column])]
  return list(_read_texts(path, TEXT_KINDS))


def read_labels(
  path: pathlib.Path,
  ids: Sequence[str],
  id_column: str = 'id',
  label_column: str = 'label',
) -> list[str]:
  """Reads a label a row, as it is spelt there.

  Args:
    path: a .txt or .npy file in the order of the ids, or a .csv file, in which
      an image of no class may be left out.
    ids: [N] unique.
    id_column: of a .csv file.
    label_column: of a .csv file.

  Returns:
    [N] labels; of a .txt or .npy file as many as it has.

  Raises:
    InputError: if the file is missing, damaged or of another kind, or if it
      speaks of an unknown id, or twice of one.
  """
  if path.suffix != '.csv':
    return one_object_each(_read_texts(path, TEXT_KINDS + FLOAT_KINDS))
  row_of = {image_id: row for row, image_id in enumerate(ids)}
  labels: list[str | None] = [None] * len(ids)
  for line, (image_id, label) in read_columns(path, [id_column, label_column]):
    row = row_of.get(image_id)
    if row is None:
      raise InputError(
        f'{path}, line {line}: the id {brief(image_id)} is that of no vector; '
        'wanted ids of vectors only. Mend the id or take the line out.'
      )
    if labels[row] is not None:
      raise InputError(
        f'{path}, line {line}: the id {brief(image_id)} comes a second time; '
        'wanted one label an image. Take one of the lines out.'
      )
    labels[row] = label
  return one_object_each(label or '' for label in labels)


def beside(path: pathlib.Path, what: str) -> pathlib.Path:
  """The file of `ids` or `labels` that belongs to a file of vectors."""
  return path.with_suffix(f'.{what}.txt')


def ids_beside(path: pathlib.Path) -> list[str] | None:
  """Reads NAME.ids.txt beside a file of vectors; None without one."""
  card = card_beside(path)
  digest = None if card is None else card.ids_digest
  return _lines_beside(beside(path, 'ids'), digest)


def labels_beside(path: pathlib.Path) -> list[str] | None:
  """Reads NAME.labels.txt beside a file of vectors; None without one."""
  card = card_beside(path)
  digest = None if card is None else card.labels_digest
  lines = _lines_beside(beside(path, 'labels'), digest)
  return None if lines is None else one_object_each(lines)


def one_object_each(texts: Iterable[str]) -> list[str]:
  """The same texts, equal ones one object: millions are of few classes."""
  known: dict[str, str] = {}
  return [known.setdefault(text, text) for text in texts]


def spell_class(label: str) -> str:
  """One spelling of a class, however a table, a float or a person spelt it.

  Spaces around it go, those inside become one, letters are composed (NFC), and
  whole numbers lose what they have of a float.

  Args:
    label: as it was found.

  Returns:
    The class; '' for none, as which missing values of any spelling count, and
    negative whole numbers.

  >>> [spell_class(label) for label in ('3', '3.0', ' old  town', '007')]
  ['3', '3', 'old town', '007']
  >>> [spell_class(label) for label in ('nan', '<NA>', 'None', '-1', '-1.0')]
  ['', '', '', '', '']
  """
  spelt = re.sub(r'[^\S\n]+', ' ', unicodedata.normalize('NFC', label.strip()))
  if _WHOLE_FLOAT.fullmatch(spelt):
    number = float(spelt)
    # 3.5e+00 has the form and is not whole.
    spelt = str(int(number)) if number.is_integer() else spelt
  if _NO_CLASS.fullmatch(spelt) or _NEGATIVE.fullmatch(spelt):
    return ''
  return spelt


def spell_classes(labels: Sequence[str]) -> tuple[list[str], dict[str, str]]:
  """One spelling of each class.

  Args:
    labels: [N] as they were found.

  Returns:
    [N] classes, '' for none, equal ones one object; and of each spelling that
    isn't the class's own, which class it is.
  """
  known = {label: spell_class(label) for label in set(labels)}
  classes = {spelt: spelt for spelt in known.values()}
  others = {label: spelt for label, spelt in known.items() if label != spelt}
  return [classes[known[label]] for label in labels], others


def require_ids(ids: Sequence[str], where: Where) -> None:
  """Refuses ids that cannot name one image each.

  Args:
    ids: [N].
    where: says which file and row of it a row is.

  Raises:
    InputError: if one is empty, has a line feed, or comes twice.
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
        f'{where(row)}: the id {brief(image_id)} is also that of '
        f'{where(first)}. Every image has one vector; take one of them out.'
      )


def require_labels(labels: Sequence[str], where: Where) -> None:
  """Refuses labels that would not be one line each.

  Args:
    labels: [N], '' for none.
    where: says which file and row of it a row is.

  Raises:
    InputError: if one has a line feed.
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
        f'the vectors. The first difference: {where(row)} is {brief(there)}, '
        f'here it is {brief(given[row])}. Leave --{what} out, or name the file '
        'that belongs to these vectors.'
      )


def _read_texts(path: pathlib.Path, kinds: str) -> Iterator[str]:
  if not path.is_file():
    raise InputError(f'{path}: no such file. Wanted {_WANTED}.')
  if path.suffix == '.npy':
    yield from read_npy(path).texts(kinds)
  elif path.suffix == '.txt':
    yield from read_foreign_lines(path)
  else:
    raise InputError(f'{path}: found {path.suffix!r}, wanted {_WANTED}.')


def _lines_beside(path: pathlib.Path, digest: str | None) -> list[str] | None:
  if not path.exists():
    return None
  # Lines that a store has written may end in carriage returns; in those of
  # others, these are part of the end.
  if digest is not None and digest_ids(lines := read_lines(path)) == digest:
    return lines
  return read_foreign_lines(path)


def _require_line(what: str, text: str, row: int, where: Where) -> None:
  # Some Unicode from UTF-16 cannot be written as UTF-8.
  fine = text.isascii() or text.encode(errors='replace').decode() == text
  if not fine or '\n' in text:
    raise InputError(
      f'{where(row)}: the {what} {brief(text)} has a line feed or something '
      'else that is no text. A line for each is kept; mend it.'
    )
