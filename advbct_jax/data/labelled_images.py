"""A user's own images and their labels, as a folder or a table has them."""

from collections.abc import Sequence
import pathlib
import posixpath
import unicodedata

from advbct_jax.data.csv_tables import read_columns
from advbct_jax.data.file_names import printable
from advbct_jax.data.folder_walk import IMAGE_SUFFIXES, FolderWalk
from advbct_jax.errors import InputError

# Marks that no font shows: byte order, and joints of width zero.
_INVISIBLE = dict.fromkeys(map(ord, '\ufeff\u200b\u2060'))


def list_labelled_images(
  source: pathlib.Path,
) -> tuple[pathlib.Path, dict[str, list[str]]]:
  """Lists the images of each class.

  Labels that look the same are the same: blanks around them, and the ways in
  which Unicode may compose a letter, make no difference.

  Args:
    source: a folder with a folder a class, or a CSV file with the columns
      `path` (relative to the file) and `label`. Images may lie deeper in the
      folder of their class, and links are followed. Hidden files and folders,
      and files that are no images, are passed over, which a printed line says.

  Returns:
    The folder that paths are relative to, and the paths by class.

  Raises:
    InputError: if there are no images, an image without a class, a class with
      fewer than two images, or a row without an image.
  """
  if source.is_file():
    root, paths_of = source.parent, _read_table(source)
  else:
    root, paths_of = source, _list_folders(source)
  small = [label for label, paths in paths_of.items() if len(paths) < 2]
  if small:
    raise InputError(
      f'{printable(source)}: found fewer than two images of '
      f'{", ".join(map(printable, small[:10]))}'
      f'{" …" if len(small) > 10 else ""}, wanted two or more of every class. '
      'Add images, or leave the class out.'
    )
  _remark_on_case(sorted(paths_of))
  return root, paths_of


def _read_table(table: pathlib.Path) -> dict[str, list[str]]:
  """The paths of each class in a table of paths and labels."""
  paths_of: dict[str, list[str]] = {}
  seen: set[str] = set()
  for line, (written, cell) in read_columns(table, ('path', 'label')):
    where = f'{table}, line {line}'
    label = _normalise(cell)
    path = _find_file(table.parent, written)
    if not label:
      raise InputError(
        f'{where}: found no label for {path or written}, wanted the name of '
        'its class. Mend the row.'
      )
    if path is None:
      raise InputError(
        f'{where}: found no image {table.parent / written}, wanted one of the '
        f'class {label}. Paths are relative to the table; mend the row.'
      )
    if path in seen:
      raise InputError(
        f'{where}: {path} has a row already. Every image has one label; remove '
        'a row.'
      )
    seen.add(path)
    paths_of.setdefault(label, []).append(path)
  return paths_of


def _find_file(folder: pathlib.Path, written: str) -> str | None:
  r"""The path of a file as the disk has it, from what a table says of it.

  A table made on Windows has `\` between names, which elsewhere is a letter
  like others; one made on a Mac may compose its letters otherwise than the
  disk does.
  """
  with_slashes = written.replace('\\', '/')
  for path in (
    written,
    with_slashes,
    unicodedata.normalize('NFC', with_slashes),
    unicodedata.normalize('NFD', with_slashes),
  ):
    if (folder / path).is_file():
      return posixpath.normpath(path)
  return None


def _list_folders(root: pathlib.Path) -> dict[str, list[str]]:
  """The paths of each class in a folder with a folder a class."""
  if not root.is_dir():
    raise InputError(
      f'{printable(root)}: no such folder or file. A folder with a folder a '
      'class is wanted, or a CSV file with the columns path,label.'
    )
  walk = FolderWalk(root)
  paths_of: dict[str, list[str]] = {}
  for folder in walk.folders():
    paths_of.setdefault(_normalise(folder.name), []).extend(
      path.relative_to(root).as_posix() for path in walk.images(folder)
    )
  if passed_over := walk.describe():
    print(f'{printable(root)}: {passed_over}')
  if not any(paths_of.values()):
    raise InputError(
      f'{printable(root)}: found no images, wanted a folder a class with '
      f'images in it ({" ".join(IMAGE_SUFFIXES)}).'
    )
  return paths_of


def _remark_on_case(labels: Sequence[str]) -> None:
  """Says which classes may be one, written in two ways; only a person knows."""
  written: dict[str, list[str]] = {}
  for label in labels:
    written.setdefault(label.casefold(), []).append(label)
  for alike in written.values():
    if len(alike) > 1:
      print(
        f'taken as {len(alike)} classes, since they differ in case: '
        + ', '.join(map(printable, alike))
      )


def _normalise(label: str) -> str:
  """The one form of all labels that look the same."""
  composed = unicodedata.normalize('NFC', label.translate(_INVISIBLE))
  return ' '.join(composed.split())
