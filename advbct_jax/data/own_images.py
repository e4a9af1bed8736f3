"""A user's own images become a data set in GLDv2's layout.

A part of the classes is held out: the index and the queries of the retrieval
set are theirs, so that it asks, as GLDv2's does, about classes that no
encoder was trained on.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent import futures
import csv
import dataclasses
import hashlib
import itertools
import os
import pathlib
import shutil

import numpy as np
import tqdm

from advbct_jax.data import gldv2
from advbct_jax.data.decoding import (
  MAX_PIXELS,
  encode_jpeg,
  flatten,
  open_image,
  refuse_undecodable,
  turn_upright,
)
from advbct_jax.data.file_names import printable
from advbct_jax.data.image_checks import (
  Finding,
  find_oddities,
  report_findings,
  worth_noting,
)
from advbct_jax.data.images import ImageFiles
from advbct_jax.data.labelled_images import list_labelled_images
from advbct_jax.data.new_folder import new_folder
from advbct_jax.errors import InputError

LABELS_TABLE = 'labels.csv'

# Of the images of a held-out class, the part that are queries.
QUERY_SHARE = 0.2

JPEG_QUALITY = 95

_JPEG_START = b'\xff\xd8\xff'


@dataclasses.dataclass(frozen=True)
class OwnImage:
  """One image of the user's.

  Attributes:
    path: relative to the folder of the images or of the CSV file, with `/`.
    label: the name of its class.
    landmark: the number of its class in the order of the names.
  """

  path: str
  label: str
  landmark: int

  @property
  def id(self) -> str:
    """16 hexadecimal digits that depend on the path alone."""
    # As the disk has it: a name need not be Unicode.
    return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Split:
  """What is trained on, searched in, and searched with.

  Attributes:
    train: the images of the training classes.
    index: gallery images of the held-out classes.
    test: queries of the held-out classes.
  """

  train: Sequence[OwnImage]
  index: Sequence[OwnImage]
  test: Sequence[OwnImage]


def prepare_own_images(
  source: pathlib.Path,
  out: pathlib.Path,
  held_out: float = 0.2,
  seed: int = 0,
  upright: bool = True,
  max_pixels: int = MAX_PIXELS,
) -> Split:
  """Writes one's own images as a folder in GLDv2's layout.

  JPEGs keep their bytes (as hard links where the disk allows); other images
  are converted to JPEGs of quality 95, of several pictures the first. Every
  image is decoded once, so that what is broken shows now, not in the training.
  `labels.csv` says which class and path every image came from, `images.json`
  whether images are turned by their EXIF orientation.

  Args:
    source: a folder with a folder a class, or a CSV file with the columns
      `path` (relative to the file) and `label`.
    out: the new folder; it must not exist, and does so only when whole.
    held_out: the part of the classes that are held out, between 0 and 1.
    seed: chooses the classes and the queries.
    upright: whether images are turned by their EXIF orientation, as a phone's
      pictures must be: converted ones now, JPEGs whenever they are read.
    max_pixels: how many pixels an image may have.

  Returns:
    What became of the images.

  Raises:
    InputError: if an image cannot be read, if a class has fewer than two, if
      there are fewer than two classes, or if `out` exists.
  """
  root, paths_of = list_labelled_images(source)
  images = [
    OwnImage(path, label, landmark)
    for landmark, label in enumerate(sorted(paths_of))
    for path in sorted(paths_of[label])
  ]
  split = split_images(images, held_out, seed)
  with new_folder(out) as folder:
    parts = {'train': split.train, 'index': split.index, 'test': split.test}
    noted: list[Finding] = []
    for name, part in parts.items():
      noted += _place_images(root, folder / name, part, upright, max_pixels)
    report_findings(printable(source), len(images), noted)
    _write_tables(folder, split)
    gldv2.write_traits(folder, upright=upright)
  return split


def split_images(
  images: Sequence[OwnImage], held_out: float, seed: int
) -> Split:
  """Holds classes out, and draws queries from them.

  Args:
    images: the images, class by class, two or more of each.
    held_out: the part of the classes that are held out, between 0 and 1;
      rounded to a number of classes, but never to none or all of them.
    seed: chooses the classes and the queries.

  Returns:
    The three parts, each in the order of the images. Of a held-out class a
    fifth are queries: at least one image, never all.

  Raises:
    InputError: if there is but one class, or `held_out` is out of range.
  """
  if not 0 < held_out < 1:
    raise InputError(
      f'held_out: found {held_out}, wanted a part between 0 and 1. Try 0.2.'
    )
  classes = sorted({image.landmark for image in images})
  if len(classes) < 2:
    raise InputError(
      f'found {len(classes)} class, wanted two or more: some to train on, and '
      'others to search for. Add a class.'
    )
  rng = np.random.default_rng(seed)
  count = min(max(round(held_out * len(classes)), 1), len(classes) - 1)
  chosen = set(rng.permutation(classes)[:count].tolist())
  train, index, test = [], [], []
  for landmark, group in itertools.groupby(images, lambda i: i.landmark):
    members = list(group)
    if landmark not in chosen:
      train += members
      continue
    asked = max(round(QUERY_SHARE * len(members)), 1)
    queries = set(rng.permutation(len(members))[:asked].tolist())
    test += [image for at, image in enumerate(members) if at in queries]
    index += [image for at, image in enumerate(members) if at not in queries]
  return Split(train, index, test)


def _place_images(
  root: pathlib.Path,
  folder: pathlib.Path,
  images: Sequence[OwnImage],
  upright: bool,
  max_pixels: int,
) -> list[Finding]:
  """Puts images where GLDv2's layout has them; returns what to say of them."""

  def place(image: OwnImage) -> Finding:
    target = folder / gldv2.image_path(image.id)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = root / image.path
    where = printable(source)
    try:
      oddities = _place_image(source, target, upright, max_pixels)
      return Finding(where, oddities=oddities)
    except InputError as error:
      return Finding(where, str(error))

  with futures.ThreadPoolExecutor() as pool:
    findings = tqdm.tqdm(
      pool.map(place, images),
      desc=f'writing {folder.name}',
      total=len(images),
      unit=' images',
    )
    return list(filter(worth_noting, findings))


def _place_image(
  source: pathlib.Path, target: pathlib.Path, upright: bool, max_pixels: int
) -> tuple[str, ...]:
  """Links or copies a JPEG, converts anything else; returns the oddities."""
  encoded = ImageFiles(source.parent, [source.name])[0]
  is_jpeg = encoded.startswith(_JPEG_START)
  with (
    refuse_undecodable(printable(source)),
    open_image(encoded, max_pixels) as image,
  ):
    oddities = find_oddities(image)
    if is_jpeg:
      # An eighth of the size takes a fraction of the time, and reads all of the
      # file just so.
      image.draft(None, (1, 1))
      image.load()
    else:
      plain = flatten(image)
      plain = turn_upright(plain, image) if upright else plain
      encoded = encode_jpeg(plain, JPEG_QUALITY)
  if not is_jpeg:
    target.write_bytes(encoded)
    return oddities
  try:
    # What a link points to, for a link to a link would break with the latter.
    os.link(source.resolve(), target)
  except OSError:  # Another disk, or one without links.
    shutil.copyfile(source, target)
  return oddities


def _write_tables(folder: pathlib.Path, split: Split) -> None:
  """Writes GLDv2's four tables, and the one of classes and paths."""

  def write(name: str, header: str, rows: Iterable[Iterable[object]]) -> None:
    with (folder / name).open('w', encoding='utf-8', newline='') as file:
      writer = csv.writer(file, lineterminator='\n')
      writer.writerow(header.split(','))
      writer.writerows(rows)

  write(
    gldv2.TRAIN_TABLE,
    'landmark_id,images',
    _ids_by_landmark(split.train).items(),
  )
  write(gldv2.INDEX_TABLE, 'id', ([image.id] for image in split.index))
  write(gldv2.TEST_TABLE, 'id', ([image.id] for image in split.test))
  relevant = _ids_by_landmark(split.index)
  # Choose settings by the Public queries, report the Private ones.
  write(
    gldv2.SOLUTION_TABLE,
    'id,images,Usage',
    (
      (image.id, relevant[image.landmark], ('Private', 'Public')[at % 2])
      for at, image in enumerate(split.test)
    ),
  )
  write(
    LABELS_TABLE,
    'id,landmark_id,label,path',
    (
      (
        image.id,
        image.landmark,
        printable(image.label),
        printable(image.path),
      )
      for image in (*split.train, *split.index, *split.test)
    ),
  )


def _ids_by_landmark(images: Sequence[OwnImage]) -> Mapping[int, str]:
  """The ids of each class, separated by spaces."""
  return {
    landmark: ' '.join(image.id for image in group)
    for landmark, group in itertools.groupby(images, lambda i: i.landmark)
  }
