"""What a check has seen of images, written down so that it can go on."""

import dataclasses
import json
import pathlib

from advbct_jax.atomic_files import write_text
from advbct_jax.errors import InputError

# After so many images what was seen of them is on the disk.
_WRITTEN_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Seen:
  """What is known of one image once it was read.

  Attributes:
    unreadable: why it cannot be used; '' if it can. Then nothing else is known.
    size: width and height in pixels, as it is stored.
    digest: SHA-256 of its bytes.
    look: its perceptual hash.
  """

  unreadable: str = ''
  size: tuple[int, int] = (0, 0)
  digest: bytes = b''
  look: int = 0


class SeenImages:
  """Of which images is known what, by part and row.

  It is a file of lines of JSON: first what is checked, then an image each. What
  a kill left of the last line is passed over. Unreadable images are not
  written, so that they are read again, mended or not.
  """

  def __init__(self, path: pathlib.Path | None, checked: str):
    """Reads what there is, or begins a file.

    Args:
      path: of the file; None keeps nothing.
      checked: a digest of what is checked. A file of something else is begun
        anew.

    Raises:
      InputError: if the file cannot be written.
    """
    self._path = path
    self._seen: dict[tuple[str, int], Seen] = {}
    self._unwritten: list[str] = []
    if path is None:
      return
    header = json.dumps({'checked': checked})
    lines = _whole_lines(path)
    if lines[:1] != [header]:
      lines = [header]
    try:
      self._seen = dict(map(_read, lines[1:]))
    except (ValueError, TypeError):
      lines = [header]  # damaged: all images are read again
    try:
      write_text(path, ''.join(f'{line}\n' for line in lines))
    except OSError as error:
      raise InputError(
        f'{path}: cannot be written ({error}). Name another place by --out.'
      ) from error

  def __len__(self) -> int:
    """How many images are known."""
    return len(self._seen)

  def get(self, part: str, row: int) -> Seen | None:
    """What is known of an image; None if nothing is."""
    return self._seen.get((part, row))

  def add(self, part: str, row: int, seen: Seen) -> None:
    """Adds an image."""
    if self._path is None or seen.unreadable:
      return
    fields = [part, row, *seen.size, seen.digest.hex(), seen.look]
    self._unwritten.append(json.dumps(fields) + '\n')
    if len(self._unwritten) >= _WRITTEN_AT_ONCE:
      self.write()

  def write(self) -> None:
    """Writes what is not yet in the file."""
    if self._path is not None and self._unwritten:
      with self._path.open('a', encoding='utf-8') as file:
        file.writelines(self._unwritten)
      self._unwritten.clear()

  def remove(self) -> None:
    """Removes the file, whose check is through."""
    if self._path is not None:
      self._path.unlink(missing_ok=True)


def _whole_lines(path: pathlib.Path) -> list[str]:
  """The lines of a file that have their ends; none where there is no file."""
  if not path.is_file():
    return []
  found = path.read_bytes()
  whole = found[: found.rfind(b'\n') + 1]
  return whole.decode('utf-8', 'replace').splitlines()


def _read(line: str) -> tuple[tuple[str, int], Seen]:
  part, row, width, height, digest, look = json.loads(line)
  seen = Seen('', (width, height), bytes.fromhex(digest), int(look))
  return (str(part), int(row)), seen
