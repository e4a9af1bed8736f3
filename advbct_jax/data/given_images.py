"""Images that a program has at hand: paths, arrays, Pillow's images."""

from collections.abc import Sequence
import dataclasses
import io
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from advbct_jax.data.decoding import flatten
from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.errors import InputError

GivenImage = str | os.PathLike[str] | np.ndarray | Image.Image

# What a PNG can hold of Pillow's modes.
_PNG_MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16')


@dataclasses.dataclass(frozen=True)
class GivenImages:
  """Encoded images, of which those in memory are encoded when asked for.

  So that every image, wherever it comes from, is decoded in the one way that
  is part of an encoder, and pixels take no more memory than they did.

  Attributes:
    images: N paths, [H, W, 3] or [H, W] uint8 arrays, or Pillow's images.
  """

  images: Sequence[GivenImage]

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> bytes:
    image = self.images[index]
    if isinstance(image, str | os.PathLike):
      return ImageFiles(pathlib.Path(), [os.fspath(image)])[0]
    if isinstance(image, np.ndarray):
      image = Image.fromarray(image)
    # As it was read: EXIF is often broken, which must not matter here.
    exif = image.info.get('exif')
    if image.mode not in _PNG_MODES:
      image = flatten(image)
    file = io.BytesIO()
    # Fast rather than small, for nobody keeps it.
    image.save(file, 'PNG', compress_level=1, exif=exif)
    return file.getvalue()

  def where(self, index: int) -> str:
    """The path of one image, or its number."""
    image = self.images[index]
    if isinstance(image, str | os.PathLike):
      return os.fspath(image)
    return f'image {index}'


def make_image_set(
  images: Any,
  name: str = 'images',
  ids: Sequence[str] | None = None,
  upright: bool = True,
) -> ImageSet:
  """Makes a set of images that a program has at hand.

  Args:
    images: N paths, [H, W, 3] or [H, W] uint8 arrays, or Pillow's images, or
      one array of the former.
    name: what the set is called.
    ids: [N] what the images are called; None takes their paths or numbers.
    upright: whether images are turned by their EXIF orientation.

  Raises:
    InputError: if there is none, one is none of these, or the ids are others
      than the images.
  """
  if isinstance(images, str | os.PathLike | Image.Image):
    raise InputError(
      f'images: found one {type(images).__name__}, wanted a list of images. '
      'Write [image].'
    )
  images = list(images)
  if not images:
    raise InputError('images: found none, wanted one or more.')
  for number, image in enumerate(images):
    _require_image(number, image)
  if ids is None:
    ids = [
      os.fspath(image) if isinstance(image, str | os.PathLike) else str(number)
      for number, image in enumerate(images)
    ]
  if len(ids) != len(images) or len(set(ids)) != len(images):
    raise InputError(
      f'ids: found {len(ids)} ids, {len(set(ids))} of them different, of '
      f'{len(images)} images; wanted one of its own for each image.'
    )
  return ImageSet(
    name, list(map(str, ids)), GivenImages(images), upright=upright
  )


def _require_image(number: int, image: Any) -> None:
  if isinstance(image, str | os.PathLike | Image.Image):
    return
  found = type(image).__name__
  if isinstance(image, np.ndarray):
    coloured = image.ndim == 3 and image.shape[2] == 3
    if image.dtype == np.uint8 and (coloured or image.ndim == 2):
      return
    found = f'an array of {image.dtype} and the shape {list(image.shape)}'
  raise InputError(
    f'image {number}: found {found}; wanted a path, one of Pillow’s images, or '
    'a uint8 array [H, W, 3] of RGB, or [H, W] of grey, of 0 to 255.'
  )
