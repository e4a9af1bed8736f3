"""Images in a fixed order: which there are, and how one is read."""

from collections.abc import Sequence
from concurrent import futures
import dataclasses
import hashlib
import os
import pathlib
import stat
from typing import NoReturn, Protocol

import numpy as np
import tqdm

from advbct_jax import processes
from advbct_jax.data.decoding import (
  MAX_PIXELS,
  decode_image,
  refuse_undecodable,
)
from advbct_jax.data.file_names import printable
from advbct_jax.errors import InputError

# No picture of `MAX_PIXELS` takes more, at 16 bytes a pixel.
_LARGEST_FILE = 2**31


@dataclasses.dataclass(frozen=True)
class Normalization:
  """What is subtracted from pixels of 0 to 1, and what they are divided by.

  Attributes:
    mean: of red, green and blue.
    deviation: of the same.
    description: what the cards of stores say of it.
  """

  mean: tuple[float, float, float]
  deviation: tuple[float, float, float]
  description: str


NORMALIZATIONS = {
  # Of ImageNet's training images, as all of torchvision's weights and timm's
  # ResNets expect it.
  'imagenet': Normalization(
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 'ImageNet mean and deviation'
  ),
  # As most of timm's ViTs expect it.
  'half': Normalization(
    (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 'mean and deviation 0.5'
  ),
  # As TensorFlow trained EfficientNet-Lite: (x - 127)/128, whole numbers for
  # the sake of quantised ones.
  'efficientnet_lite': Normalization(
    (127 / 255,) * 3, (128 / 255,) * 3, 'mean 127/255 and deviation 128/255'
  ),
}


class EncodedImages(Protocol):
  """Random access to encoded (JPEG, PNG, …) images."""

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
    return self._read(index)

  def ending(self, index: int, count: int) -> bytes:
    """The last bytes of one image, at most so many."""
    return self._read(index, count)

  def where(self, index: int) -> str:
    """The path of one image."""
    return printable(self.root / self.paths[index])

  def _read(self, index: int, last: int | None = None) -> bytes:
    try:
      path = self.root / self.paths[index]
      with open(path, 'rb', opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
          raise InputError(
            f'{self.where(index)}: found no file, or one of more than '
            f'{_LARGEST_FILE // 2**30} GiB, wanted an image. The list of '
            'images names it; take it off the list, or shrink it.'
          )
        if last is not None:
          file.seek(max(status.st_size - last, 0))
        return file.read()
    except OSError as error:
      raise InputError(
        f'{self.where(index)}: cannot read the image ({error.strerror}). '
        'The list of images names it; restore the file or take it off the '
        'list.'
      ) from error


def _open_at_once(path: str, flags: int) -> int:
  """Opens a file without waiting, as one would for the writer of a pipe."""
  return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0))


@dataclasses.dataclass(frozen=True)
class NoPictures:
  """What a data set of vectors has in the place of images: ids alone.

  Attributes:
    folder: where pictures would lie.
    count: the number of things N.
  """

  folder: pathlib.Path
  count: int

  def __len__(self) -> int:
    return self.count

  def __getitem__(self, index: int) -> bytes:
    del index
    self.refuse()

  def refuse(self) -> NoReturn:
    """Says that something wants pictures.

    Raises:
      InputError: always.
    """
    raise InputError(
      f'{self.folder}: there are no pictures here, so that this data set is '
      'known by vectors alone, but an encoder of images is to see it. Wanted: '
      'stores or files of vectors in its stead, a head on them '
      '(--config=vectors), or the folder with the pictures.'
    )

  def where(self, index: int) -> str:
    """Where a picture would lie."""
    del index
    return printable(self.folder)


@dataclasses.dataclass(frozen=True)
class TakenImages:
  """Some of the encoded images of a set.

  Attributes:
    images: all of them.
    rows: [N] which are taken.
  """

  images: EncodedImages
  rows: np.ndarray

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: int) -> bytes:
    return self.images[int(self.rows[index])]

  def where(self, index: int) -> str:
    """Where one image lies."""
    return self.images.where(int(self.rows[index]))


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
    upright: whether images are turned by their EXIF orientation. The published
      sets are taken as they are stored, as all figures of theirs are.
    max_pixels: how many pixels an image may have before it is refused.
  """

  name: str
  ids: Sequence[str]
  images: EncodedImages
  labels: np.ndarray | None = None
  boxes: np.ndarray | None = None
  upright: bool = False
  max_pixels: int = MAX_PIXELS

  def __len__(self) -> int:
    return len(self.ids)

  def ids_digest(self) -> str:
    """A digest of all ids in their order; equal for equal lists only."""
    return digest_ids(self.ids)

  def take(self, rows: np.ndarray) -> 'ImageSet':
    """The images in some rows, [n], under the same name."""
    return dataclasses.replace(
      self,
      ids=[self.ids[row] for row in rows],
      images=TakenImages(self.images, rows),
      labels=None if self.labels is None else self.labels[rows],
      boxes=None if self.boxes is None else self.boxes[rows],
    )

  def load(
    self, index: int, size: int, resampling: str = 'bilinear'
  ) -> np.ndarray:
    """Decodes one image and squashes it to a square.

    Args:
      index: which image.
      size: side of the result in pixels.
      resampling: a key of `RESAMPLINGS`.

    Returns:
      [size, size, 3] uint8 RGB.

    Raises:
      InputError: if the image is missing or cannot be decoded.
    """
    box = None if self.boxes is None else self.boxes[index]
    encoded = self.images[index]
    with refuse_undecodable(self.images.where(index)):
      return decode_image(
        encoded, size, box, self.upright, resampling, self.max_pixels
      )


def digest_ids(ids: Sequence[str]) -> str:
  """A SHA-256 of ids in their order, as hexadecimal digits."""
  digest = hashlib.sha256()
  for image_id in ids:
    digest.update(image_id.encode() + b'\n')
  return digest.hexdigest()


def load_all(
  image_set: ImageSet, size: int, resampling: str = 'bilinear'
) -> np.ndarray:
  """Decodes a whole set into memory, with one thread a core.

  Args:
    image_set: N images.
    size: side of each result in pixels.
    resampling: a key of `RESAMPLINGS`.

  Returns:
    [N, size, size, 3] uint8 RGB.

  Raises:
    InputError: if an image is missing or cannot be decoded.
  """
  decoded = np.empty((len(image_set), size, size, 3), np.uint8)

  def load(index: int) -> None:
    decoded[index] = image_set.load(index, size, resampling)

  with futures.ThreadPoolExecutor() as pool:
    for _ in tqdm.tqdm(
      pool.map(load, range(len(image_set))),
      desc=f'decoding {image_set.name}',
      total=len(image_set),
      unit=' images',
      disable=not processes.is_first(),
    ):
      pass
  return decoded
