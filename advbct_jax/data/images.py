"""Images in a fixed order: which there are, and how one is read."""

from collections.abc import Sequence
from concurrent import futures
import dataclasses
import hashlib
import io
import os
import pathlib
from typing import Protocol

import numpy as np
from PIL import Image
import tqdm

from advbct_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Normalization:
  """What is subtracted from pixels of 0 to 1, and what they are divided by.

  Attributes:
    mean: of red, green and blue.
    deviation: of the same.
  """

  mean: tuple[float, float, float]
  deviation: tuple[float, float, float]


NORMALIZATIONS = {
  # Of ImageNet's training images, as all of torchvision's weights and timm's
  # ResNets expect it.
  'imagenet': Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  # As most of timm's ViTs expect it.
  'half': Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}

# The last bytes of a whole file; some encoders pad behind them.
_JPEG_END = b'\xff\xd9'
_PNG_END = b'IEND\xaeB`\x82'
_ENDING_BYTES = 16
_CHECKED_AT_ONCE = 16384

# Errors are collected up to this many before they are reported together.
_MAX_REPORTED = 10


class EncodedImages(Protocol):
  """Random access to encoded (JPEG, PNG) images."""

  def __len__(self) -> int:
    """The number of images."""
    ...

  def __getitem__(self, index: int) -> bytes:
    """The encoded bytes of one image."""
    ...

  def where(self, index: int) -> str:
    """Where one image lies, as a person would look for it."""
    ...


@dataclasses.dataclass(frozen=True)
class ImageFiles:
  """Encoded images that lie as files in a folder.

  Attributes:
    root: the folder that the paths start from.
    paths: one relative path an image.
  """

  root: pathlib.Path
  paths: Sequence[str]

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> bytes:
    return self._read(index, whole=True)

  def ending(self, index: int) -> bytes:
    """The last bytes of one image, enough to see whether it is whole."""
    return self._read(index, whole=False)

  def where(self, index: int) -> str:
    """The path of one image."""
    return str(self.root / self.paths[index])

  def _read(self, index: int, whole: bool) -> bytes:
    try:
      with (self.root / self.paths[index]).open('rb') as file:
        if not whole:
          size = file.seek(0, os.SEEK_END)
          file.seek(max(size - _ENDING_BYTES, 0))
        return file.read()
    except OSError as error:
      raise InputError(
        f'{self.where(index)}: cannot read the image ({error.strerror}). '
        'The list of images names it; restore the file or take it off the '
        'list.'
      ) from error


@dataclasses.dataclass(frozen=True)
class ImageSet:
  """A list of images in a fixed order, read on demand.

  Attributes:
    name: what the set is called in stores and reports, such as `gldv2-train`.
    ids: [N] one unique id an image.
    images: [N] their encoded bytes.
    labels: [N] int64 landmark ids as published, or None where there are none.
    boxes: [N, 4] float32 x1, y1, x2, y2 in pixels that an image is cropped to
      before anything else, or None to take images whole.
  """

  name: str
  ids: Sequence[str]
  images: EncodedImages
  labels: np.ndarray | None = None
  boxes: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.ids)

  def ids_digest(self) -> str:
    """A digest of all ids in their order; equal for equal lists only."""
    return digest_ids(self.ids)

  def load(self, index: int, size: int) -> np.ndarray:
    """Decodes one image and squashes it to a square.

    Args:
      index: which image.
      size: side of the result in pixels.

    Returns:
      [size, size, 3] uint8 RGB.

    Raises:
      InputError: if the image is missing or cannot be decoded.
    """
    box = None if self.boxes is None else self.boxes[index]
    try:
      return decode_image(self.images[index], size, box)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
      raise InputError(
        f'{self.images.where(index)}: cannot decode the image ({error}). '
        'A whole JPEG or PNG is wanted; fetch it again or take it off the '
        'list.'
      ) from error


def digest_ids(ids: Sequence[str]) -> str:
  """A SHA-256 of ids in their order, as hexadecimal digits."""
  digest = hashlib.sha256()
  for image_id in ids:
    digest.update(image_id.encode() + b'\n')
  return digest.hexdigest()


def decode_image(
  encoded: bytes,
  size: int,
  box: np.ndarray | None = None,
) -> np.ndarray:
  """Decodes an image, crops it, and squashes it to a square.

  Resampling is PIL's antialiased bilinear filter, which torchvision's `Resize`
  uses on PIL images.

  Args:
    encoded: a JPEG or PNG, in colour or grey.
    size: side of the result in pixels.
    box: [4] x1, y1, x2, y2 in pixels to crop to first.

  Returns:
    [size, size, 3] uint8 RGB.
  """
  with Image.open(io.BytesIO(encoded)) as image:
    rgb = image.convert('RGB')
  if box is not None:
    rgb = rgb.crop(tuple(box.tolist()))
  if rgb.size != (size, size):
    rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
  return np.asarray(rgb)


def load_all(image_set: ImageSet, size: int) -> np.ndarray:
  """Decodes a whole set into memory, with one thread a core.

  Args:
    image_set: N images.
    size: side of each result in pixels.

  Returns:
    [N, size, size, 3] uint8 RGB.

  Raises:
    InputError: if an image is missing or cannot be decoded.
  """
  decoded = np.empty((len(image_set), size, size, 3), np.uint8)

  def load(index: int) -> None:
    decoded[index] = image_set.load(index, size)

  with futures.ThreadPoolExecutor() as pool:
    for _ in tqdm.tqdm(
      pool.map(load, range(len(image_set))),
      desc=f'decoding {image_set.name}',
      total=len(image_set),
      unit=' images',
    ):
      pass
  return decoded


def check_images(image_set: ImageSet) -> None:
  """Refuses a set of files with missing or truncated ones among them.

  Only the end of each file is read; one that does not end as a JPEG or PNG does
  is decoded. Records are not looked at: whoever wrote them has.

  Raises:
    InputError: naming the first unusable images, and how many there are.
  """
  files = image_set.images
  if not isinstance(files, ImageFiles):
    return

  def problem(index: int) -> str | None:
    try:
      if not files.ending(index).endswith((_JPEG_END, _PNG_END)):
        image_set.load(index, size=8)
    except InputError as error:
      return str(error)
    return None

  # In blocks, for a pool holds all that it is given, a kilobyte an image.
  blocks = np.array_split(
    np.arange(len(image_set)), -(-len(image_set) // _CHECKED_AT_ONCE)
  )
  problems: list[str] = []
  with (
    futures.ThreadPoolExecutor() as pool,
    tqdm.tqdm(
      desc=f'checking {image_set.name}', total=len(image_set), unit=' images'
    ) as progress,
  ):
    for block in blocks:
      problems += filter(None, pool.map(problem, block.tolist()))
      progress.update(len(block))
  if problems:
    more = '\n  …' if len(problems) > _MAX_REPORTED else ''
    raise InputError(
      f'{image_set.name}: {len(problems)} of {len(image_set)} images cannot '
      'be used:\n  ' + '\n  '.join(problems[:_MAX_REPORTED]) + more
    )
