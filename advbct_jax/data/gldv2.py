"""Google Landmarks v2 in its published layout.

A root folder holds

    train_clean.csv               landmark_id,images (ids separated by spaces)
    index.csv, test.csv           id
    retrieval_solution_v2.1.csv   id,images,Usage
    train/ index/ test/           a/b/c/abc….jpg
    images.json                   {"upright": true}, where images are to be
                                  turned by their EXIF orientation; the
                                  published set, which has no such file, isn't

or, in place of the three image folders, `gldv2/` with the records that
`advbct_jax.data.records` writes; or nothing of these, where the set is known by
vectors alone and ids are any texts without blanks. Nothing is looked up per
image when a set is loaded; a missing image shows when it is read.

Source: https://github.com/cvdfoundation/google-landmark
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
import re
from typing import overload

import numpy as np

from advbct_jax.data.csv_tables import read_columns
from advbct_jax.data.ground_truth import Gldv2GroundTruth, RetrievalSet
from advbct_jax.data.images import (
  EncodedImages,
  ImageFiles,
  ImageSet,
  NoPictures,
)
from advbct_jax.data.record_images import open_records, records_folder
from advbct_jax.errors import InputError, brief
from advbct_jax.typed_json import read_json

TRAIN_TABLE = 'train_clean.csv'
INDEX_TABLE = 'index.csv'
TEST_TABLE = 'test.csv'
SOLUTION_TABLE = 'retrieval_solution_v2.1.csv'
TRAITS_FILE = 'images.json'

_USAGES = ('Public', 'Private', 'Ignored')

# The first three characters name folders, so an id must not hold `/` or `.`.
# Where there are no files to name, any text will do that a list of them in one
# cell of a table can hold.
_IMAGE_ID = re.compile(r'[0-9A-Za-z_-]{3,250}')
_SPLITS = ('train', 'index', 'test')
_LANDMARK_ID = re.compile(r'[0-9]{1,18}')


def load_train(root: pathlib.Path, name: str = 'gldv2') -> ImageSet:
  """Loads the cleaned training set.

  Args:
    root: a folder in the published layout.
    name: what the data set is called; the set is called `NAME-train`.

  Returns:
    The images in the order of `train_clean.csv`; the labels are its landmark
    ids, unchanged.

  Raises:
    InputError: if the table is missing or malformed, or names a landmark or
      an image twice.
  """
  table = root / TRAIN_TABLE
  landmarks: dict[int, int] = {}
  ids: list[str] = []
  for line, (landmark, images) in read_columns(
    table, ('landmark_id', 'images')
  ):
    if not _LANDMARK_ID.fullmatch(landmark):
      raise InputError(
        f'{table}, line {line}: found the landmark id {brief(landmark)}, '
        'wanted a whole number from 0. Mend the row.'
      )
    label = int(landmark)
    image_ids = images.split()
    if label in landmarks:
      raise InputError(
        f'{table}, line {line}: landmark {label} has a row already. Join the '
        'two rows.'
      )
    if not image_ids:
      raise InputError(
        f'{table}, line {line}: landmark {label} has no images. Remove the row.'
      )
    landmarks[label] = len(image_ids)
    ids.extend(image_ids)
  _check_ids(table, ids, has_pictures(root))
  # Four million labels, without a Python object for each.
  labels = np.repeat(
    np.fromiter(landmarks.keys(), np.int64),
    np.fromiter(landmarks.values(), np.int64),
  )
  return ImageSet(
    f'{name}-train',
    ids,
    _open_images(root, 'train', ids),
    labels,
    upright=_read_upright(root),
  )


def load_retrieval(root: pathlib.Path, name: str = 'gldv2') -> RetrievalSet:
  """Loads the retrieval set.

  Args:
    root: a folder in the published layout.
    name: what the data set is called; its image sets are called `NAME-index`
      and `NAME-test`.

  Returns:
    The gallery in the order of `index.csv`, and the queries that the solution
    doesn't ignore, in the order of the solution.

  Raises:
    InputError: if a table is missing or malformed, names an image twice, or
      if the solution speaks of images that the other two don't have.
  """
  pictures = has_pictures(root)
  gallery_ids = _read_ids(root / INDEX_TABLE, pictures)
  positions = {image_id: at for at, image_id in enumerate(gallery_ids)}
  upright = _read_upright(root)
  query_ids, ground_truth = _read_solution(
    root / SOLUTION_TABLE,
    positions,
    set(_read_ids(root / TEST_TABLE, pictures)),
  )
  return RetrievalSet(
    name=name,
    queries=ImageSet(
      f'{name}-test',
      query_ids,
      _open_images(root, 'test', query_ids),
      upright=upright,
    ),
    gallery=ImageSet(
      f'{name}-index',
      gallery_ids,
      _open_images(root, 'index', gallery_ids),
      upright=upright,
    ),
    ground_truth=ground_truth,
  )


def has_pictures(root: pathlib.Path) -> bool:
  """Whether a folder in this layout has images, or is known by vectors alone.

  Args:
    root: a folder in the published layout.
  """
  return records_folder(root, 'gldv2').is_dir() or any(
    (root / split).is_dir() for split in _SPLITS
  )


def image_path(image_id: str) -> str:
  """Where an image lies in its folder.

  >>> image_path('53187670d4d03a37')
  '5/3/1/53187670d4d03a37.jpg'
  """
  return '/'.join((*image_id[:3], f'{image_id}.jpg'))


def write_traits(root: pathlib.Path, *, upright: bool) -> None:
  """Writes what holds for all images of a folder.

  Args:
    root: a folder in the published layout.
    upright: whether they are turned by their EXIF orientation.
  """
  (root / TRAITS_FILE).write_text(json.dumps({'upright': upright}) + '\n')


@dataclasses.dataclass(frozen=True)
class ImagePaths(Sequence[str]):
  """The paths of images, made when asked for: millions would take room.

  Attributes:
    folder: `train`, `index` or `test`.
    ids: [N] image ids.
  """

  folder: str
  ids: Sequence[str]

  def __len__(self) -> int:
    return len(self.ids)

  @overload
  def __getitem__(self, index: int) -> str: ...
  @overload
  def __getitem__(self, index: slice) -> 'ImagePaths': ...
  def __getitem__(self, index: int | slice) -> 'str | ImagePaths':
    if isinstance(index, slice):
      return ImagePaths(self.folder, self.ids[index])
    return f'{self.folder}/{image_path(self.ids[index])}'


def _open_images(
  root: pathlib.Path, split: str, ids: Sequence[str]
) -> EncodedImages:
  """The images of a split, from records where there are some."""
  records = records_folder(root, 'gldv2')
  if records.is_dir():
    return open_records(records, split, ids)
  if not has_pictures(root):
    return NoPictures(root, len(ids))
  return ImageFiles(root, ImagePaths(split, ids))


def _read_upright(root: pathlib.Path) -> bool:
  """Whether the images of a folder are turned by their EXIF orientation."""
  path = root / TRAITS_FILE
  if not path.exists():
    return False
  try:
    traits = read_json(path)
    found = traits['upright']
  except (OSError, ValueError, TypeError, KeyError) as error:
    found = error
  if not isinstance(found, bool):
    raise InputError(
      f'{path}: found no "upright" that is true or false ({brief(found)}), '
      'wanted {"upright": true} where images are turned by their EXIF '
      'orientation. Mend it, or prepare the folder again.'
    )
  return found


def _read_ids(table: pathlib.Path, pictures: bool) -> list[str]:
  """The ids of a table that has nothing else."""
  ids = [image_id for _, (image_id,) in read_columns(table, ('id',))]
  _check_ids(table, ids, pictures)
  return ids


def _check_ids(
  table: pathlib.Path, ids: Sequence[str], pictures: bool = False
) -> None:
  """Refuses ids that can't name a file, and ids that are there twice."""
  for image_id in ids if pictures else ():
    if not _IMAGE_ID.fullmatch(image_id):
      raise InputError(
        f'{table}: found the image id {brief(image_id)}, wanted 3 to 250 '
        'letters, digits, `-` or `_`, as in 53187670d4d03a37. Mend the row.'
      )
  if len(set(ids)) < len(ids):
    [(repeated, times)] = collections.Counter(ids).most_common(1)
    raise InputError(
      f'{table}: found the image {repeated} {times} times, wanted it once. '
      'Remove the repeats.'
    )


def _read_solution(
  table: pathlib.Path, gallery: Mapping[str, int], tests: set[str]
) -> tuple[list[str], Gldv2GroundTruth]:
  """The ids of the queries in use, and their relevant gallery positions."""
  query_ids: list[str] = []
  relevant: list[np.ndarray] = []
  usages: list[str] = []
  for line, (query, images, usage) in read_columns(
    table, ('id', 'images', 'Usage')
  ):
    where = f'{table}, line {line}: query {query}'
    if usage not in _USAGES:
      raise InputError(
        f'{where}: found the Usage {brief(usage)}, wanted one of '
        f'{", ".join(_USAGES)}. Mend the row.'
      )
    if usage == 'Ignored':
      continue
    if query not in tests:
      raise InputError(
        f'{where} is not in {TEST_TABLE}. Take both tables from the same '
        'release.'
      )
    image_ids = images.split()
    missing = [image_id for image_id in image_ids if image_id not in gallery]
    if missing or not image_ids:
      raise InputError(
        f'{where}: found the relevant images {missing[:3] or "(none)"}, wanted '
        f'ids of {INDEX_TABLE}. Take both tables from the same release.'
      )
    query_ids.append(query)
    # An image that is named twice is one hit, and counts once in the metric.
    relevant.append(np.unique([gallery[image_id] for image_id in image_ids]))
    usages.append(usage)
  if not query_ids:
    raise InputError(
      f'{table}: found no query with the Usage Public or Private. At least one '
      'is wanted; fetch the table again.'
    )
  _check_ids(table, query_ids)
  return query_ids, Gldv2GroundTruth(relevant, usages)
