"""A user's own images and their labels, as a folder or a table has them."""

from collections.abc import Iterable
import pathlib
import posixpath

from advbct_jax.data.csv_tables import read_columns
from advbct_jax.errors import InputError

# Formats that Pillow may lack a decoder for are here too: an image that cannot
# be read is to be reported, not passed over.
_SUFFIXES = (
  *('.avif', '.bmp', '.gif', '.heic', '.heif', '.jpeg', '.jpg', '.png'),
  *('.tif', '.tiff', '.webp'),
)


def list_labelled_images(
  source: pathlib.Path,
) -> tuple[pathlib.Path, dict[str, list[str]]]:
  """Lists the images of each class.

  Args:
    source: a folder with a folder a class, or a CSV file with the columns
      `path` (relative to the file) and `label`. Images may lie deeper in the
      folder of their class. Hidden files and files that are no images are
      passed over.

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
      f'{source}: found fewer than two images of {", ".join(small[:10])}'
      f'{" …" if len(small) > 10 else ""}, wanted two or more of every class. '
      'Add images, or leave the class out.'
    )
  return root, paths_of


def _read_table(table: pathlib.Path) -> dict[str, list[str]]:
  """The paths of each class in a table of paths and labels."""
  paths_of: dict[str, list[str]] = {}
  seen: set[str] = set()
  for line, (written, label) in read_columns(table, ('path', 'label')):
    where = f'{table}, line {line}'
    path = posixpath.normpath(written)
    if not label:
      raise InputError(
        f'{where}: found no label for {path}, wanted the name of its class. '
        'Mend the row.'
      )
    if not (table.parent / path).is_file():
      raise InputError(
        f'{where}: found no image {table.parent / path}, wanted one of the '
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


def _list_folders(root: pathlib.Path) -> dict[str, list[str]]:
  """The paths of each class in a folder with a folder a class."""
  if not root.is_dir():
    raise InputError(
      f'{root}: no such folder or file. A folder with a folder a class is '
      'wanted, or a CSV file with the columns path,label.'
    )
  paths_of: dict[str, list[str]] = {}
  for child in sorted(root.iterdir()):
    if child.name.startswith('.'):
      continue
    if child.is_dir():
      paths_of[child.name] = [
        path.relative_to(root).as_posix() for path in _find_images(child)
      ]
    elif child.suffix.lower() in _SUFFIXES:
      raise InputError(
        f'{child}: found an image outside of the folders of the classes. Move '
        'it into one.'
      )
  if not any(paths_of.values()):
    raise InputError(
      f'{root}: found no images, wanted a folder a class with images in it '
      f'({" ".join(_SUFFIXES)}).'
    )
  return paths_of


def _find_images(folder: pathlib.Path) -> Iterable[pathlib.Path]:
  """All images below a folder; hidden files are none."""
  return (
    path
    for path in folder.rglob('*')
    if path.suffix.lower() in _SUFFIXES
    and not path.name.startswith('.')
    and path.is_file()
  )
