"""TFDS builders that pack a folder of images into ArrayRecord files.

Millions of small files are slow to list, copy and read; some hundreds of
ArrayRecord files are not, and they too give any image by its position. A
prepared folder holds the tables of the original one beside the records, so the
loaders of `gldv2` and `revisited` read either.

The builders are shard by shard (`ShardBasedBuilder`): they keep the order of
the tables and a single shard in memory. `GeneratorBasedBuilder` keeps a given
order only by sorting a whole split in memory, and beyond 1 GB needs TensorFlow.

Apache Beam's workers may pack the shards. TFDS's own way to do so is of no use
here: it makes two stages of the pipeline a shard, which Beam's local runner
runs one after the other, ships the image list with each, and beyond ten shards
takes down their lengths in the order of '0', '1', '10', '2' (seen in 4.9.10).
"""

import abc
from collections.abc import Callable, Iterator
from concurrent import futures
import contextlib
import functools
import inspect
import io
import itertools
import pathlib
import shutil
from typing import Any
import uuid

import numpy as np
from PIL import Image
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2
import tqdm

from advbct_jax import beam_workers
from advbct_jax.data import gldv2, revisited
from advbct_jax.data.decoding import (
  MAX_PIXELS,
  encode_jpeg,
  flatten,
  open_image,
  refuse_undecodable,
  turn_upright,
)
from advbct_jax.data.image_checks import check_images, require_usable
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
    beam: str | None = None,
    **kwargs: Any,
  ):
    """Takes the folder to pack, and TFDS' own arguments."""
    self._source = source
    self._longest_side = longest_side
    self._max_pixels = max_pixels
    self._beam = beam
    super().__init__(file_format='array_record', **kwargs)

  @abc.abstractmethod
  def _found(self) -> DataFolder:
    """The data set to pack; its image sets become the splits."""

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=inspect.getdoc(type(self)),
      features=_features(),
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
          _read_examples, image_set, rows, self._longest_side, progress.update
        )
        for rows in _cut_shards(image_set)
      ]
      for split, image_set in sets.items()
    }

  def _example_writer(self) -> tfds.core.ExampleWriter:
    return _RepeatableWriter(self.info.file_format)

  def _download_and_prepare(
    self, dl_manager: Any, download_config: Any = None
  ) -> None:
    if self._beam is None:
      super()._download_and_prepare(dl_manager, download_config)
      return
    folder = pathlib.Path(self.data_dir).absolute()
    sets = open_image_sets(self._found(), self._max_pixels)
    shards = {split: _cut_shards(found) for split, found in sets.items()}
    templates = {
      split: self._get_filename_template(split_name=split) for split in sets
    }
    paths = {
      split: [
        folder
        / templates[split]
        .sharded_filepath(shard_index=number, num_shards=len(shards[split]))
        .name
        for number in range(len(shards[split]))
      ]
      for split in sets
    }
    beam_workers.do_all(
      functools.partial(
        _open_packing, self._found(), self._longest_side, self._max_pixels
      ),
      [
        (split, rows, path)
        for split in sets
        for rows, path in zip(shards[split], paths[split], strict=True)
      ],
      self._beam,
      folder,
    )
    # What workers that were lost have left.
    for path in set(folder.iterdir()) - {*itertools.chain(*paths.values())}:
      if path.is_file():
        path.unlink(missing_ok=True)
    self.info.set_splits(
      tfds.core.SplitDict(
        [
          tfds.core.SplitInfo(
            name=split,
            shard_lengths=[len(rows) for rows in shards[split]],
            num_bytes=sum(path.stat().st_size for path in paths[split]),
            filename_template=templates[split],
          )
          for split in sets
        ]
      )
    )


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
  beam: str | None = None,
) -> None:
  """Packs a folder in GLDv2's layout into records.

  Args:
    source: the folder.
    out: the prepared folder; it must not exist, and does so only when whole.
    longest_side: in pixels; larger images are shrunk to it.
    max_pixels: how many pixels an image may have.
    beam: options of Apache Beam, whose workers pack; None packs here.

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
      beam=beam,
      data_dir=folder,
    )
    _write(builder, folder)


def prepare_revisited(
  source: pathlib.Path,
  name: str,
  out: pathlib.Path,
  longest_side: int | None = None,
  max_pixels: int = MAX_PIXELS,
  beam: str | None = None,
) -> None:
  """Packs a set in the Revisited layout into records.

  Args:
    source: the folder.
    name: the set, such as `roxford5k`.
    out: the prepared folder; it must not exist, and does so only when whole.
    longest_side: in pixels; larger gallery images are shrunk to it.
    max_pixels: how many pixels an image may have.
    beam: options of Apache Beam, whose workers pack; None packs here.

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
      beam=beam,
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


class _RepeatableWriter(tfds.core.ExampleWriter):
  """Writes the same bytes in any process.

  Left to itself, protobuf puts the fields of a record in an order that each
  process draws anew.
  """

  def write(self, path: Any, examples: Any) -> Any:
    return super().write(
      path, ((key, _sort_fields(record)) for key, record in examples)
    )


def _sort_fields(record: bytes) -> bytes:
  example = tf_example_pb2.Example.FromString(record)
  return example.SerializeToString(deterministic=True)


def _features() -> tfds.features.FeaturesDict:
  return tfds.features.FeaturesDict(
    {
      'id': tfds.features.Text(),
      'image': tfds.features.Image(encoding_format='jpeg'),
      'landmark_id': tfds.features.Scalar(np.int64, doc='-1 for none'),
    }
  )


def _cut_shards(image_set: ImageSet) -> list[range]:
  """The positions of each shard."""
  everything = range(len(image_set))
  return [
    everything[start : start + IMAGES_PER_SHARD]
    for start in everything[::IMAGES_PER_SHARD]
  ]


def _open_packing(
  found: DataFolder, longest_side: int | None, max_pixels: int
) -> beam_workers.Do:
  """Opens a data set in a worker, which packs shards of it."""
  sets = open_image_sets(found, max_pixels)

  def pack(task: tuple[str, range, pathlib.Path]) -> None:
    split, rows, path = task
    # Of two workers at one shard the last one's is kept, which is the same.
    unfinished = path.with_name(f'{path.name}.{uuid.uuid4().hex}')
    pack_shard(sets[split], rows, unfinished, longest_side)
    unfinished.rename(path)

  return pack


def pack_shard(
  image_set: ImageSet,
  rows: range,
  path: pathlib.Path,
  longest_side: int | None = None,
) -> None:
  """Writes one file of records.

  Args:
    image_set: of which images are packed.
    rows: which.
    path: of the file.
    longest_side: in pixels; larger images are shrunk to it.

  Raises:
    InputError: if an image cannot be used.
  """
  features = _features()
  examples = _read_examples(image_set, rows, longest_side, check=True)
  _RepeatableWriter(tfds.core.FileFormat.ARRAY_RECORD).write(
    path, ((key, features.serialize_example(value)) for key, value in examples)
  )


def _read_examples(
  image_set: ImageSet,
  positions: range,
  longest_side: int | None,
  advance: Callable[[], object] = lambda: None,
  check: bool = False,
) -> _Examples:
  """Reads the images of one shard with a thread a core."""

  def read(position: int) -> bytes:
    if check:
      require_usable(image_set, position)
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
      advance()


def _write(builder: _ImageRecords, folder: pathlib.Path) -> None:
  """Runs a builder, without its remarks about a download."""
  # TFDS makes a folder for downloads, though there are none.
  downloads = folder / 'downloads'
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare(download_dir=downloads)
  shutil.rmtree(downloads)
