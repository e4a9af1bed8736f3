"""Revisited Oxford and Paris, and sets of one's own in their layout.

A root folder holds `gnd_NAME.pkl`, or `NAME/gnd_NAME.pkl`: a pickled dict of

    imlist    names of the gallery images, without `.jpg`
    qimlist   names of the query images
    gnd       one dict a query: `bbx` (x1, y1, x2, y2 in pixels), and `easy`,
              `hard` and `junk`, which are indices into imlist

and the images as `NAME/jpg/*.jpg` or `jpg/*.jpg`, or in their place, beside the
pickle, `revisited/` with the records that `advbct_jax.data.records` writes.

Source: Radenović et al., "Revisiting Oxford and Paris", CVPR 2018,
http://cmp.felk.cvut.cz/revisitop
"""

from collections.abc import Sequence
import pathlib
import re
from typing import Any

import numpy as np

from advbct_jax.data.ground_truth import RetrievalSet, RevisitedGroundTruth
from advbct_jax.data.images import EncodedImages, ImageFiles, ImageSet
from advbct_jax.data.plain_pickles import read_plain_pickle
from advbct_jax.data.record_images import open_records, records_folder
from advbct_jax.errors import InputError, brief

_GRADES = ('easy', 'hard', 'junk')

# A name becomes the name of a file: nothing in it may lead out of the folder.
# Python writes bytes that are not UTF-8 as U+DC80 to U+DCFF; other surrogates
# are in no path.
_IMAGE_NAME = re.compile(r'[^/\\\x00-\x1f\ud800-\udc7f\udd00-\udfff]+')

# In pixels a side.
_LARGEST_IMAGE = 1e6


def load_retrieval(
  root: pathlib.Path, name: str, crop_queries: bool = True
) -> RetrievalSet:
  """Loads a retrieval set.

  Args:
    root: a folder in the published layout. Its images need not be there: they
      are looked for when they are read.
    name: the set, such as `roxford5k`; its image sets are called
      `NAME-gallery` and `NAME-queries`.
    crop_queries: whether queries are cropped to their boxes, as is standard.

  Returns:
    The gallery in the order of `imlist`, the queries in that of `qimlist`.

  Raises:
    InputError: if the ground truth is missing, malformed, contradicts itself,
      or needs more than plain data to be unpickled.
  """
  path = find_ground_truth(root, name)
  content = read_plain_pickle(path)
  _check_keys(path, 'the file', content, ('imlist', 'qimlist', 'gnd'))
  gallery_ids = _read_names(path, 'imlist', content['imlist'])
  query_ids = _read_names(path, 'qimlist', content['qimlist'])
  queries = content['gnd']
  if not isinstance(queries, list) or len(queries) != len(query_ids):
    raise _malformed(path, 'gnd', queries, f'a list of {len(query_ids)} dicts')
  for query, truth in zip(query_ids, queries, strict=True):
    _check_query(path, query, truth, len(gallery_ids))
  boxes = np.array([truth['bbx'] for truth in queries], np.float32)
  return RetrievalSet(
    name=name,
    queries=ImageSet(
      f'{name}-queries',
      query_ids,
      _open_images(root, path.parent, name, 'queries', query_ids),
      boxes=boxes if crop_queries else None,
    ),
    gallery=ImageSet(
      f'{name}-gallery',
      gallery_ids,
      _open_images(root, path.parent, name, 'gallery', gallery_ids),
    ),
    ground_truth=RevisitedGroundTruth(
      *(
        [np.array(truth[grade], np.int64) for truth in queries]
        for grade in _GRADES
      )
    ),
  )


def find_ground_truth(root: pathlib.Path, name: str) -> pathlib.Path:
  """Finds the pickle of a set.

  Args:
    root: a folder in the published layout.
    name: the set, such as `roxford5k`.

  Returns:
    The path of `gnd_NAME.pkl`.

  Raises:
    InputError: if there is none.
  """
  paths = ground_truth_paths(root, name)
  for path in paths:
    if path.is_file():
      return path
  raise InputError(
    f'{root}: found no ground truth of {name}, wanted '
    f'{" or ".join(map(str, paths))}. Download it, or check the folder and '
    'the name.'
  )


def ground_truth_paths(root: pathlib.Path, name: str) -> list[pathlib.Path]:
  """Where the pickle of a set may lie, the likeliest first."""
  return [root / f'gnd_{name}.pkl', root / name / f'gnd_{name}.pkl']


def _open_images(
  root: pathlib.Path,
  beside: pathlib.Path,
  name: str,
  split: str,
  ids: Sequence[str],
) -> EncodedImages:
  """The images of a split, from records where there are some."""
  records = records_folder(beside, 'revisited')
  if records.is_dir():
    return open_records(records, split, ids)
  nested, flat = root / name / 'jpg', root / 'jpg'
  folder = flat if flat.is_dir() and not nested.is_dir() else nested
  return ImageFiles(folder, [f'{image_id}.jpg' for image_id in ids])


def _malformed(
  path: pathlib.Path, what: str, found: Any, wanted: str
) -> InputError:
  return InputError(
    f'{path}: {what}: found {brief(found)}, wanted {wanted}. Download '
    'the ground truth again, or mend the script that wrote it.'
  )


def _check_keys(
  path: pathlib.Path, what: str, found: Any, keys: Sequence[str]
) -> None:
  if not isinstance(found, dict):
    raise _malformed(path, what, found, f'a dict of {", ".join(keys)}')
  if any(key not in found for key in keys):
    raise _malformed(path, what, list(found), f'the keys {", ".join(keys)}')


def _read_names(path: pathlib.Path, key: str, names: Any) -> list[str]:
  """Checks a list of images: names of files, none twice."""
  if not isinstance(names, list) or not names:
    raise _malformed(path, key, names, 'a list of image names')
  seen = set()
  for image_name in names:
    if not isinstance(image_name, str) or not _IMAGE_NAME.fullmatch(image_name):
      raise _malformed(path, key, image_name, 'the name of an image file')
    if image_name in seen:
      raise _malformed(path, key, f'{image_name} twice', 'every image once')
    seen.add(image_name)
  return names


def _check_query(
  path: pathlib.Path, query: str, truth: Any, gallery_size: int
) -> None:
  """Checks the box and the graded indices of one query."""
  what = f'query {query}'
  _check_keys(path, what, truth, ('bbx', *_GRADES))
  _check_box(path, f'{what}, bbx', truth['bbx'])
  graded: dict[int, str] = {}
  for grade in _GRADES:
    indices = truth[grade]
    if not isinstance(indices, list):
      raise _malformed(path, f'{what}, {grade}', indices, 'a list of indices')
    for index in indices:
      if type(index) is not int or not 0 <= index < gallery_size:
        raise _malformed(
          path,
          f'{what}, {grade}',
          index,
          f'indices from 0 to {gallery_size - 1}',
        )
      if index in graded:
        raise _malformed(
          path,
          what,
          f'index {index} in {graded[index]} and in {grade}',
          'every image graded once',
        )
      graded[index] = grade


def _check_box(path: pathlib.Path, what: str, box: Any) -> None:
  """Checks that a box has four ordered corners, none of them NaN or endless."""
  plain = isinstance(box, list | tuple) and all(
    type(number) in (int, float) and abs(number) < _LARGEST_IMAGE
    for number in box
  )
  if not plain or len(box) != 4 or box[0] >= box[2] or box[1] >= box[3]:
    raise _malformed(
      path, what, box, 'four numbers x1, y1, x2, y2 with x1 < x2 and y1 < y2'
    )
