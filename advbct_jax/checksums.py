"""Checksums of the files of a folder, which tell of damage.

They lie in the folder as `SHA256SUMS`, so that `sha256sum -c SHA256SUMS` reads
them too. TensorStore has checksums of its own for the tree of what it stores,
but none for the numbers: a bit of a weight that flips on a disk, or on the way
to another one, would pass for a weight.
"""

import hashlib
import pathlib

from advbct_jax.atomic_files import write_text

NAME = 'SHA256SUMS'


def digest_file(path: pathlib.Path) -> str:
  """The SHA-256 of a file, as hexadecimal digits."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def write_checksums(folder: pathlib.Path) -> None:
  """Notes the files of a folder, which no longer change.

  Args:
    folder: whose files are read once.
  """
  lines = [
    f'{digest_file(folder / name)}  {name}\n' for name in _file_names(folder)
  ]
  write_text(folder / NAME, ''.join(lines))


def find_damage(folder: pathlib.Path) -> str | None:
  """Says which file of a folder is not as it was noted.

  Args:
    folder: one without checksums cannot be said to be damaged.

  Returns:
    What was found, such as `d/f36d was changed`; None where all is as it was.

  Raises:
    OSError: if a file cannot be read.
  """
  try:
    lines = (folder / NAME).read_bytes().decode(errors='replace').splitlines()
  except FileNotFoundError:
    return None
  noted = {line[66:]: line[:64] for line in lines}
  there = set(_file_names(folder))
  for name in sorted(noted.keys() | there):
    if name not in there:
      return f'{name} is missing'
    if name not in noted:
      if pathlib.PurePath(name).name.startswith('.'):
        continue  # left by a file system or a desktop
      return f'{name} is not in {NAME}'
    if digest_file(folder / name) != noted[name]:
      return f'{name} was changed'
  return None


def _file_names(folder: pathlib.Path) -> list[str]:
  paths = (path for path in folder.rglob('*') if path.is_file())
  names = (path.relative_to(folder).as_posix() for path in paths)
  return sorted(name for name in names if name != NAME)
