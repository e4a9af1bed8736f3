"""Looks at images before they are used: what is broken, what is odd."""

from collections.abc import Callable, Generator, Iterable
from concurrent import futures
import dataclasses
import functools
from typing import TypeVar

import numpy as np
from PIL import Image
import tqdm

from advbct_jax import processes
from advbct_jax.data.decoding import open_image, refuse_undecodable
from advbct_jax.data.images import ImageFiles, ImageSet, NoPictures, TakenImages
from advbct_jax.errors import InputError

# A tracking pixel, a rule between paragraphs: not what anybody searches for.
LEAST_SIDE = 8
_LARGEST_RATIO = 16

_SUSPICIOUS = (
  f'suspicious: under {LEAST_SIDE} pixels wide or high, or over '
  f'{_LARGEST_RATIO} times as long as wide'
)
_SEVERAL_PICTURES = (
  'of several pictures (an animation, pages), of which the first is taken'
)

# The last bytes of a whole JPEG; some encoders pad behind them.
_JPEG_END = b'\xff\xd9'
# So much is read of each file: small ones, and a picture of few pixels makes
# no other, are then there whole, with their size in pixels.
_ENDING_BYTES = 16 * 1024
_CHECKED_AT_ONCE = 16384

# Images are named up to these numbers, and then counted.
_MOST_PROBLEMS = 10
_MOST_ODDITIES = 3

Look = TypeVar('Look')


@dataclasses.dataclass(frozen=True)
class Finding:
  """What was found out about one image.

  Attributes:
    where: it lies, as a person would look for it.
    problem: why it cannot be used; None if it can.
    oddities: what a person should know of it, as `find_oddities` words it.
  """

  where: str
  problem: str | None = None
  oddities: tuple[str, ...] = ()


def check_images(image_set: ImageSet) -> None:
  """Refuses a set of files with missing or broken ones among them.

  Of a JPEG only the end is read, for one that has its end decodes, whatever is
  broken inside. Any other image is decoded. Records are not looked at: whoever
  wrote them has.

  It prints a line on images that are suspiciously small or long, as far as
  that can be seen at no cost, and one on images of several pictures.

  Raises:
    InputError: naming the first unusable images, and how many there are; or
      if the set has no pictures at all.
  """
  rows = np.arange(len(image_set))
  if isinstance(image_set.images, TakenImages):
    rows = image_set.images.rows
    image_set = dataclasses.replace(image_set, images=image_set.images.images)
  if isinstance(image_set.images, NoPictures):
    image_set.images.refuse()
  if not isinstance(image_set.images, ImageFiles):
    return
  look = functools.partial(_look, image_set.images, image_set.max_pixels)
  noted = list(filter(worth_noting, look_at_all(image_set.name, look, rows)))
  report_findings(image_set.name, len(rows), noted)


def require_usable(image_set: ImageSet, index: int) -> None:
  """Refuses a file that `check_images` would; it prints nothing.

  Args:
    image_set: not one of taken rows.
    index: which image.

  Raises:
    InputError: if the image cannot be used.
  """
  if isinstance(image_set.images, ImageFiles):
    found = _look(image_set.images, image_set.max_pixels, index)
    if found.problem:
      raise InputError(found.problem)


def _look(files: ImageFiles, max_pixels: int, index: int) -> Finding:
  where = files.where(index)
  try:
    ending = files.ending(index, _ENDING_BYTES)
    small = len(ending) < _ENDING_BYTES
    if ending.endswith(_JPEG_END) and not small:
      return Finding(where)
    encoded = ending if small else files[index]
    with (
      refuse_undecodable(where),
      open_image(encoded, max_pixels) as image,
    ):
      oddities = find_oddities(image)
      if not encoded.endswith(_JPEG_END):
        image.load()
  except InputError as error:
    return Finding(where, str(error))
  return Finding(where, oddities=oddities)


def look_at_all(
  name: str, look: Callable[[int], Look], rows: np.ndarray
) -> Generator[Look, None, None]:
  """Looks at images in parallel, and shows how far it is.

  Args:
    name: of the images together.
    look: takes the row of an image; called in threads.
    rows: [n] of the images.

  Yields:
    What `look` returns, in the order of the rows.
  """
  with (
    futures.ThreadPoolExecutor() as pool,
    tqdm.tqdm(
      desc=f'checking {name}',
      total=len(rows),
      unit=' images',
      disable=not processes.is_first(),
    ) as progress,
  ):
    # In blocks, for a pool holds all that it is given, a kilobyte an image.
    for start in range(0, len(rows), _CHECKED_AT_ONCE):
      for found in pool.map(
        look, rows[start : start + _CHECKED_AT_ONCE].tolist()
      ):
        progress.update()
        yield found


def find_oddities(image: Image.Image) -> tuple[str, ...]:
  """What a person should know of an image that is open; it isn't decoded."""
  oddities = []
  least, largest = sorted(image.size)
  if least < LEAST_SIDE or largest > _LARGEST_RATIO * least:
    oddities.append(_SUSPICIOUS)
  # What cameras put behind the picture of an MPO is its preview or depth, which
  # no viewer shows.
  if getattr(image, 'is_animated', False) and image.format != 'MPO':
    oddities.append(_SEVERAL_PICTURES)
  return tuple(oddities)


def worth_noting(finding: Finding) -> bool:
  """Whether there is anything to say of an image."""
  return bool(finding.problem or finding.oddities)


def report_findings(name: str, count: int, findings: Iterable[Finding]) -> None:
  """Prints what is odd, and refuses what is broken.

  Args:
    name: of the images together.
    count: how many were looked at.
    findings: of those that there is something to say of.

  Raises:
    InputError: naming the first unusable images, and how many there are.
  """
  findings = list(findings)
  problems = [finding.problem for finding in findings if finding.problem]
  if problems:
    more = '\n  …' if len(problems) > _MOST_PROBLEMS else ''
    raise InputError(
      f'{name}: {len(problems)} of {count} images cannot be used:\n  '
      + '\n  '.join(problems[:_MOST_PROBLEMS])
      + more
    )
  for oddity in (_SUSPICIOUS, _SEVERAL_PICTURES):
    odd = [finding.where for finding in findings if oddity in finding.oddities]
    if odd:
      more = ', …' if len(odd) > _MOST_ODDITIES else ''
      processes.say(
        f'{name}: {len(odd)} of {count} images are {oddity}: '
        f'{", ".join(odd[:_MOST_ODDITIES])}{more}'
      )
