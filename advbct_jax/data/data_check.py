"""Reads every image of a data set, and finds what should not be trained on."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import hashlib
import pathlib
from typing import Any

import numpy as np

from advbct_jax.data.decoding import (
  flatten,
  open_image,
  refuse_undecodable,
  turn_upright,
)
from advbct_jax.data.image_checks import LEAST_SIDE, look_at_all
from advbct_jax.data.images import ImageSet, NoPictures
from advbct_jax.data.perceptual_hash import (
  MOST_DISTANCE,
  close_pairs,
  perceptual_hash,
)
from advbct_jax.data.problem_tables import (
  DUPLICATE,
  NEAR_DUPLICATE,
  NEAR_SHARED,
  SHARED,
  TOO_SMALL,
  UNREADABLE,
  Problem,
)
from advbct_jax.data.seen_images import Seen, SeenImages
from advbct_jax.errors import InputError

_TRAIN = 'train'
# A JPEG is decoded no finer than the hash needs, which takes a fraction of the
# time and reads all of the file just so.
_DRAFT_SIDE = 64


@dataclasses.dataclass(frozen=True)
class _Image:
  """An image of a part of a data set, and what was seen of it."""

  part: str
  id: str
  label: int | None
  seen: Seen

  @property
  def trains(self) -> bool:
    return self.part == _TRAIN

  @property
  def name(self) -> str:
    return f'{self.part}/{self.id}'


def check_data(
  image_sets: Mapping[str, ImageSet],
  least_size: int = LEAST_SIDE,
  distance: int = 4,
  progress: pathlib.Path | None = None,
) -> list[Problem]:
  """Reads every image once, in parallel, and says what is wrong.

  Args:
    image_sets: the parts of a data set by their names; `train` is what is
      trained on, all others what is judged on. Images of the latter are
      compared with each other too, as a query may lie in its own gallery.
    least_size: pixels that the shorter side of an image should have.
    distance: in how many of their 64 bits the perceptual hashes of two images
      may differ that look the same.
    progress: a file for what was seen so far, from which a check that was
      killed goes on; it is gone when all is seen. What was unreadable then is
      read again, what could be read is not.

  Returns:
    The problems in the order of the images. Of images that are the same the
    first is none; of several earlier ones the first of the same class is named,
    else the first. What has the same bytes isn't told to look the same as well.

  Raises:
    InputError: if an option is out of range, or there are no pictures.
  """
  if not 0 <= distance <= MOST_DISTANCE:
    raise InputError(
      f'distance: found {distance}, wanted from 0 to {MOST_DISTANCE} bits.'
    )
  if least_size < 0:
    raise InputError(
      f'least_size: found {least_size}, wanted a number of pixels, or 0.'
    )
  known = SeenImages(progress, _digest(image_sets))
  if len(known):
    print(f'{progress}: {len(known)} images were seen before')
  images: list[_Image] = []
  for part, image_set in image_sets.items():
    if isinstance(image_set.images, NoPictures):
      image_set.images.refuse()
    labels = image_set.labels
    images += (
      _Image(part, image_id, None if labels is None else int(labels[row]), seen)
      for row, (image_id, seen) in enumerate(
        zip(image_set.ids, _see_all(part, image_set, known), strict=True)
      )
    )
  known.remove()
  return list(_find_problems(images, least_size, distance))


def _digest(image_sets: Mapping[str, ImageSet]) -> str:
  """A digest of all that what is seen of the images depends on."""
  parts = [
    f'{part} {it.ids_digest()} {it.max_pixels} {it.upright} '
    + (it.images.where(0) if len(it) else '')
    for part, it in image_sets.items()
  ]
  return hashlib.sha256('\n'.join(parts).encode()).hexdigest()


def _see_all(
  part: str, image_set: ImageSet, known: SeenImages
) -> Iterator[Seen]:
  """Looks at all images of a set that aren't known; gives all in order."""

  def see(row: int) -> Seen:
    try:
      encoded = image_set.images[row]
      with (
        refuse_undecodable(image_set.images.where(row)),
        open_image(encoded, image_set.max_pixels) as image,
      ):
        size = image.size
        image.draft('L', (_DRAFT_SIDE, _DRAFT_SIDE))
        plain = flatten(image)
        if image_set.upright:
          plain = turn_upright(plain, image)
        look = perceptual_hash(plain)
    except InputError as error:
      return Seen(unreadable=str(error))
    return Seen('', size, hashlib.sha256(encoded).digest(), look)

  before = [known.get(part, row) for row in range(len(image_set))]
  unseen = [row for row, seen in enumerate(before) if seen is None]
  looked = look_at_all(image_set.name, see, np.array(unseen, int))
  try:
    for row, seen in enumerate(before):
      if seen is None:
        seen = next(looked)
        known.add(part, row, seen)
      yield seen
  finally:
    looked.close()
    known.write()


def _find_problems(
  images: Sequence[_Image], least_size: int, distance: int
) -> Iterator[Problem]:
  looks = [image.seen.look for image in images]
  by_bytes = _Sameness(images, [image.seen.digest for image in images], {})
  by_look = _Sameness(images, looks, _close_looks(images, distance))
  for at, image in enumerate(images):
    seen = image.seen
    if seen.unreadable:
      yield Problem(image.part, image.id, UNREADABLE, detail=seen.unreadable)
      continue
    if min(seen.size) < least_size:
      detail = f'{seen.size[0]} × {seen.size[1]} pixels'
      yield Problem(image.part, image.id, TOO_SMALL, detail=detail)
    kinds = [(DUPLICATE, NEAR_DUPLICATE, image.trains)]
    if image.trains:
      kinds.append((SHARED, NEAR_SHARED, False))
    for same, near, among_trained in kinds:
      if (other := by_bytes.find(at, among_trained)) is not None:
        yield _describe(image, same, images[other], 'same bytes')
      elif (other := by_look.find(at, among_trained)) is not None:
        bits = (looks[at] ^ looks[other]).bit_count()
        detail = f'hash differs in {bits} of 64 bits'
        yield _describe(image, near, images[other], detail)


def _describe(
  image: _Image, problem: str, other: _Image, detail: str
) -> Problem:
  if image.trains and other.trains and image.label != other.label:
    detail += '; of another class'
  return Problem(image.part, image.id, problem, other.name, detail)


def _close_looks(
  images: Sequence[_Image], distance: int
) -> dict[int, list[int]]:
  """Of each hash that has any, those close to it, the closest first."""
  looks = {image.seen.look for image in images if not image.seen.unreadable}
  unique = np.array(sorted(looks), np.uint64)
  close: dict[int, list[int]] = {}
  for one, another in unique[close_pairs(unique, distance)].tolist():
    close.setdefault(one, []).append(another)
    close.setdefault(another, []).append(one)
  return {
    look: sorted(others, key=lambda other: (look ^ other).bit_count())
    for look, others in close.items()
  }


class _Sameness:
  """Finds for an image the one that it is the same as."""

  def __init__(
    self,
    images: Sequence[_Image],
    keys: Sequence[Any],
    close: Mapping[Any, Sequence[Any]],
  ):
    """Takes a key for each image, and which keys are close to each other."""
    self._images, self._keys, self._close = images, keys, close
    # The first image of a key that is trained on or not, of each class and of
    # any. There is no label that is '*'.
    self._first: dict[tuple[Any, ...], int] = {}
    for at, (image, key) in enumerate(zip(images, keys, strict=True)):
      if image.seen.unreadable:
        continue
      self._first.setdefault((key, image.trains, image.label), at)
      self._first.setdefault((key, image.trains, '*'), at)

  def find(self, at: int, among_trained: bool) -> int | None:
    """The place of what image `at` is the same as; None where nothing is.

    Among images of its own kind only earlier ones count.
    """
    image, key = self._images[at], self._keys[at]
    keys = [key, *self._close.get(key, ())]
    own_kind = image.trains == among_trained
    for label in (image.label, '*') if own_kind else ('*',):
      for other in keys:
        first = self._first.get((other, among_trained, label))
        if first is not None and (first < at or not own_kind):
          return first
    return None
