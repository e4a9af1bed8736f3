"""TFDS builders that pack a folder of images into ArrayRecord files.

Millions of small files are slow to list, copy and read; some hundreds of
ArrayRecord files are not, and they too give any image by its position. A
prepared folder holds the tables of the original one beside the records, so the
loaders of `gldv2` and `revisited` read either.

The builders are shard by shard (`ShardBasedBuilder`): they keep the order of
the tables and a single shard in memory. `GeneratorBasedBuilder` keeps a given
order only by sorting a whole split in memory, and beyond 1 GB needs TensorFlow.
"""

import abc
from collections.abc import Callable, Iterator
from concurrent import futures
import contextlib
import functools
import inspect
import io
import pathlib
import shutil
from typing import Any

import numpy as np
from PIL import Image
import tensorflow_datasets as tfds
import tqdm

from advbct_jax.data import gldv2, revisited
from advbct_jax.data.decoding import (
  MAX_PIXELS,
  encode_jpeg,
  flatten,
  open_image,
  refuse_undecodable,
  turn_upright,
)
from advbct_jax.data.image_checks import check_images
from advbct_jax.data.images import ImageSet
from advbct_jax.data.named_sets import DataFolder, open_image_sets
from advbct_jax.data.new_folder import new_folder
from advbct_jax.data.record_images import VERSION

# TFDS holds the images of a shard in memory while it writes them; a reader
# keeps every shard open. Google Landmarks v2 comes to 386 training shards.
IMAGES_PER_SHARD = 4096

JPEG_QUALITY = 92

_Examples = Iterator[tuple[int, dict[str, Any]]]


class _ImageRecords(tfds.core.ShardBasedBuilder, abc.ABC):
  """Image sets as records in their own order, one split a set."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(
    self,
    *,
    source: pathlib.Path,
    longest_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    **kwargs: Any,
  ):
    """Takes the folder to pack, and TFDS' own arguments."""
    self._source = source
    self._longest_side = longest_side
    self._max_pixels = max_pixels
    super().__init__(file_format='array_record', **kwargs)

  @abc.abstractmethod
  def _found(self) -> DataFolder:
    """The data set to pack; its image sets become the splits."""

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=inspect.getdoc(type(self)),
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'image': tfds.features.Image(encoding_format='jpeg'),
          'landmark_id': tfds.features.Scalar(np.int64, doc='-1 for none'),
        }
      ),
      disable_shuffling=True,
    )

  def _shard_iterators_per_split(
    self, dl_manager: Any
  ) -> dict[str, list[Callable[[], _Examples]]]:
    del dl_manager  # Nothing is downloaded.
    sets = open_image_sets(self._found(), self._max_pixels)
    for image_set in sets.values():
      check_images(image_set)
    total = sum(map(len, sets.values()))
    progress = tqdm.tqdm(desc='packing', total=total, unit=' images')
    return {
      split: [
        functools.partial(
          _read_examples,
          image_set,
          range(start, min(start + IMAGES_PER_SHARD, len(image_set))),
          self._longest_side,
          progress,
        )
        for start in range(0, len(image_set), IMAGES_PER_SHARD)
      ]
      for split, image_set in sets.items()
    }


class Gldv2(_ImageRecords):
  """Images in the layout of Google Landmarks v2, in the order of its tables.

  Splits: `train`, `index`, and as `test` the queries that are not ignored. A
  split that has no table is left out.
  """

  def _found(self) -> DataFolder:
    return DataFolder('gldv2', 'gldv2', self._source)


class Revisited(_ImageRecords):
  """Images in the layout of Revisited Oxford and Paris, in its order.

  Splits: `gallery` and `queries`. Queries are never shrunk: their boxes are in
  pixels of the original, and they are few.
  """

  def __init__(self, *, set_name: str, **kwargs: Any):
    """Takes the name of the set, such as `roxford5k`, besides."""
    self._set_name = set_name
    super().__init__(**kwargs)

  def _found(self) -> DataFolder:
    return DataFolder(self._set_name, 'revisited', self._source)


def prepare_gldv2(
  source: pathlib.Path,
  out: pathlib.Path,
  longest_side: int | None = None,
  max_pixels: int = MAX_PIXELS,
) -> None:
  """Packs a folder in GLDv2's layout into records.

  Args:
    source: the folder.
    out: the prepared folder; it must not exist, and does so only when whole.
    longest_side: in pixels; larger images are shrunk to it.
    max_pixels: how many pixels an image may have.

  Raises:
    InputError: if a table is malformed, an image unusable, or `out` exists.
  """
  tables = (
    gldv2.TRAIN_TABLE,
    gldv2.INDEX_TABLE,
    gldv2.TEST_TABLE,
    gldv2.SOLUTION_TABLE,
    gldv2.TRAITS_FILE,
  )
  with new_folder(out) as folder:
    for table in tables:
      if (source / table).is_file():
        shutil.copyfile(source / table, folder / table)
    builder = Gldv2(
      source=source,
      longest_side=longest_side,
      max_pixels=max_pixels,
      data_dir=folder,
    )
    _write(builder, folder)


def prepare_revisited(
  source: pathlib.Path,
  name: str,
  out: pathlib.Path,
  longest_side: int | None = None,
  max_pixels: int = MAX_PIXELS,
) -> None:
  """Packs a set in the Revisited layout into records.

  Args:
    source: the folder.
    name: the set, such as `roxford5k`.
    out: the prepared folder; it must not exist, and does so only when whole.
    longest_side: in pixels; larger gallery images are shrunk to it.
    max_pixels: how many pixels an image may have.

  Raises:
    InputError: if the ground truth is malformed, an image unusable, or `out`
      exists.
  """
  ground_truth = revisited.find_ground_truth(source, name)
  with new_folder(out) as folder:
    shutil.copyfile(ground_truth, folder / ground_truth.name)
    builder = Revisited(
      source=source,
      set_name=name,
      longest_side=longest_side,
      max_pixels=max_pixels,
      data_dir=folder,
    )
    _write(builder, folder)


def shrink(
  encoded: bytes,
  longest_side: int,
  upright: bool = False,
  max_pixels: int = MAX_PIXELS,
) -> bytes:
  """Shrinks an image whose longest side is longer than wanted.

  Args:
    encoded: a JPEG or PNG.
    longest_side: of the result, in pixels.
    upright: whether the image is turned by its EXIF orientation.
    max_pixels: how many pixels the image may have.

  Returns:
    A JPEG of quality 92 without EXIF, or the very same bytes, EXIF and all,
    where the image is no larger.
  """
  with open_image(encoded, max_pixels) as image:
    if max(image.size) <= longest_side:
      return encoded
    plain = flatten(image)
    # Pillow decodes a JPEG only as finely as it needs, if asked before.
    plain.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    if upright:
      plain = turn_upright(plain, image)
    return encode_jpeg(plain, JPEG_QUALITY)


def _read_examples(
  image_set: ImageSet,
  positions: range,
  longest_side: int | None,
  progress: tqdm.tqdm,
) -> _Examples:
  """Reads the images of one shard with a thread a core."""

  def read(position: int) -> bytes:
    encoded = image_set.images[position]
    if longest_side is None or image_set.boxes is not None:
      return encoded
    with refuse_undecodable(image_set.images.where(position), 'shrink'):
      return shrink(
        encoded, longest_side, image_set.upright, image_set.max_pixels
      )

  with futures.ThreadPoolExecutor() as pool:
    for position, image in zip(
      positions, pool.map(read, positions), strict=True
    ):
      labels = image_set.labels
      yield (
        position,
        {
          'id': image_set.ids[position],
          'image': image,
          'landmark_id': -1 if labels is None else int(labels[position]),
        },
      )
      progress.update()


def _write(builder: _ImageRecords, folder: pathlib.Path) -> None:
  """Runs a builder, without its remarks about a download."""
  # TFDS makes a folder for downloads, though there are none.
  downloads = folder / 'downloads'
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare(download_dir=downloads)
  shutil.rmtree(downloads)
