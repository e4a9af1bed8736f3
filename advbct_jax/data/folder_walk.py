"""All images below a folder, and what was passed over."""

import collections
from collections.abc import Iterator
import os
import pathlib

from advbct_jax.data.file_names import printable
from advbct_jax.errors import InputError

# Formats that Pillow may lack a decoder for are here too: an image that cannot
# be read is to be reported, not passed over.
IMAGE_SUFFIXES = (
  *('.apng', '.avif', '.bmp', '.gif', '.heic', '.heif', '.jfif', '.jp2'),
  *('.jpe', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp'),
)

# Folders that systems make, and show to nobody, without a leading dot: macOS'
# archives, Synology's thumbnails, what Windows and NAS have for deleted files.
_SYSTEM_FOLDERS = (
  *('#recycle', '$recycle.bin', '@eadir', '__macosx', 'lost+found'),
  'system volume information',
)


class FolderWalk:
  """Walks below a folder of images, and counts what it passes over.

  Links are followed, for people keep images on another disk.

  Attributes:
    root: the folder.
    passed_over: how many files were, by the reason.
  """

  def __init__(self, root: pathlib.Path):
    """Takes the folder."""
    self.root = root
    self.passed_over: collections.Counter[str] = collections.Counter()
    self._examples: dict[str, str] = {}
    # A link to a folder above would bring in the other classes, and itself
    # again without end; so would one to another class.
    real_root = pathlib.Path(os.path.realpath(root))
    self._not_by_link = {real_root, *real_root.parents}

  def folders(self) -> list[pathlib.Path]:
    """The folders in the root, hidden ones left out, in order of their names.

    Raises:
      InputError: if there is an image beside them, or no way to look.
    """
    folders = []
    for entry in _scan(self.root):
      if self._passes_over(entry):
        continue
      if entry.is_dir():
        folders.append(pathlib.Path(entry.path))
        self._not_by_link.add(_real(entry))
      elif _is_image(entry):
        raise InputError(
          f'{printable(entry.path)}: found an image outside of the folders of '
          'the classes. Move it into one.'
        )
      else:
        self._count_file(entry)
    return folders

  def images(self, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """All images below one of the folders.

    Args:
      folder: one of `folders()`.

    Yields:
      Their paths, which lead through links as they were found.

    Raises:
      InputError: if there is no way to look into a folder.
    """
    seen: set[pathlib.Path] = set()
    unlisted = [folder]
    while unlisted:
      for entry in _scan(unlisted.pop()):
        if self._passes_over(entry):
          continue
        if not entry.is_dir():
          if _is_image(entry):
            yield pathlib.Path(entry.path)
          else:
            self._count_file(entry)
        elif (real := _real(entry)) in self._not_by_link or real in seen:
          self._pass_over('linking to a folder that is listed anyway', entry)
        else:
          seen.add(real)
          unlisted.append(pathlib.Path(entry.path))

  def describe(self) -> str | None:
    """One line on what was passed over; None if nothing was."""
    if not self.passed_over:
      return None
    total = sum(self.passed_over.values())
    reasons = '; '.join(
      f'{count} {reason}, as {self._examples[reason]}'
      for reason, count in self.passed_over.items()
    )
    return f'passed over: {total} file{"s" if total > 1 else ""} ({reasons})'

  def _passes_over(self, entry: os.DirEntry[str]) -> bool:
    """Passes over what is hidden, and links that lead nowhere."""
    if not entry.name.startswith('.') and (
      entry.name.lower() not in _SYSTEM_FOLDERS
    ):
      if entry.is_symlink() and not os.path.exists(entry.path):
        self._pass_over('linking to nothing', entry)
        return True
      return False
    if entry.is_dir(follow_symlinks=False):
      inside = sum(len(files) for _, _, files in os.walk(entry.path))
      if inside:
        self._pass_over('in hidden folders', entry, inside)
    else:
      self._pass_over('hidden', entry)
    return True

  def _count_file(self, entry: os.DirEntry[str]) -> None:
    self._pass_over('with no suffix of an image', entry)

  def _pass_over(
    self, reason: str, entry: os.DirEntry[str], count: int = 1
  ) -> None:
    self.passed_over[reason] += count
    path = os.path.relpath(entry.path, self.root)
    self._examples.setdefault(reason, printable(path))


def _scan(folder: pathlib.Path) -> list[os.DirEntry[str]]:
  try:
    with os.scandir(folder) as entries:
      return sorted(entries, key=lambda entry: entry.name)
  except OSError as error:
    raise InputError(
      f'{printable(folder)}: cannot list the folder ({error.strerror}). Make '
      'it readable, or leave it out.'
    ) from error


def _real(entry: os.DirEntry[str]) -> pathlib.Path:
  return pathlib.Path(os.path.realpath(entry.path))


def _is_image(entry: os.DirEntry[str]) -> bool:
  is_image = pathlib.PurePath(entry.name).suffix.lower() in IMAGE_SUFFIXES
  return is_image and entry.is_file()
