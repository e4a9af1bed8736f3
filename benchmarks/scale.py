"""What many images take: hours, devices, bytes and memory, from measured rates.

  python -m benchmarks.scale [--images=1600000,100000000,1000000000] \
    [--images_per_second=RATE]

Measures on one core what an image costs to pack and to decode, what a record, a
stored vector and a vector of each kind of index take in bytes, beside the
formula for it, and what its name takes in memory; and multiplies. Core-seconds
are of the processor's clock, so a busy machine gives the same. How fast a
device embeds is not measured but for this machine's CPU: say RATE, images/s of
one device, or read what is printed for 1,000 as a multiple of it.
"""

import argparse
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import functools
import math
import pathlib
import tempfile
import time
from typing import Any

import faiss
import jax
import numpy as np

from advbct_jax import parallel
from advbct_jax.data import gldv2
from advbct_jax.data.images import ImageSet
from advbct_jax.data.named_sets import find_data, open_image_sets
from advbct_jax.data.records import pack_shard
from advbct_jax.embeddings.store import open_store
from advbct_jax.retrieval.service_index import Recipe, complete_recipe
from benchmarks.extraction_speed import draw_encoder, draw_images
from benchmarks.service_index import clustered_store

_HOUR = 3600
_GB, _TB = 1e9, 1e12
# A vector's id in a file, and once more in IDMap2 where lists have their own.
_ID = 8
# Of `service_index`: rounds of k-means, and vectors a list that it sees.
_ROUNDS, _PER_LIST = 25, 64
_ASSIGNED, _LISTS = 4096, 4096


@dataclasses.dataclass(frozen=True)
class Rates:
  """What one image costs.

  Attributes:
    packing: core-seconds to shrink it and write its record.
    decoding: core-seconds to decode and squash a record's image.
    record: bytes of its record.
    stored: bytes of its vector in a store, ids included.
    name: bytes of its id and path in the memory of a process.
    mapped: bytes in memory that IDMap2 has for its id beyond the file's.
    comparing: core-seconds to compare two vectors, many at once.
  """

  packing: float
  decoding: float
  record: float
  stored: float
  name: float
  mapped: float
  comparing: float


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of index: FAISS's name for it, and the bytes of a vector.

  Attributes:
    factory: takes the vectors N and the width D.
    formula: the same, to bytes a vector of the file.
  """

  factory: Callable[[int, int], str]
  formula: Callable[[int, int], float]


def main() -> None:
  """Prints rates, formulas and the table."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--images', default='1600000,100000000,1000000000')
  parser.add_argument('--images_per_second', type=float, default=1000.0)
  parser.add_argument('--hours', type=float, default=24.0)
  parser.add_argument('--dimension', type=int, default=256)
  parser.add_argument('--longest_side', type=int, default=512)
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--architecture', default='resnet18')
  parser.add_argument('--data', help='NAME:ROOT; drawn JPEGs if left out')
  parser.add_argument('--sample', type=int, default=512)
  parser.add_argument('--vectors', type=int, default=50_000)
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    rates = measure_rates(root, flags)
    sizes = measure_indexes(root / 'store', flags.vectors, flags.dimension)
  print_rates(rates, sizes, flags)
  print_table([int(count) for count in flags.images.split(',')], rates, flags)


def measure_rates(root: pathlib.Path, flags: argparse.Namespace) -> Rates:
  """Measures on this machine; what it makes goes into a folder."""
  if flags.data:
    images = next(iter(open_image_sets(find_data(flags.data)).values()))
  else:
    images = draw_images(root, flags.sample)
  images = images.take(np.arange(min(flags.sample, len(images))))
  shard = root / 'shard'
  with core_seconds() as packing:
    pack_shard(images, range(len(images)), shard, flags.longest_side)
  decoding = _decoding_seconds(images, flags.image_size)
  clustered_store(root / 'store', flags.vectors, flags.dimension)
  stored = sum(
    file.stat().st_size
    for file in (root / 'store').rglob('*')
    if file.is_file()
  )
  return Rates(
    packing=packing.seconds / len(images),
    decoding=decoding,
    record=shard.stat().st_size / len(images),
    stored=stored / flags.vectors,
    name=_bytes_of_a_name(root),
    mapped=_bytes_of_a_mapped_id(),
    comparing=_comparing_seconds(flags.dimension),
  )


def _decoding_seconds(images: ImageSet, size: int) -> float:
  """Core-seconds to decode and squash an image, on one thread."""
  images.load(0, size)
  with core_seconds() as taken:
    for row in range(len(images)):
      images.load(row, size)
  return taken.seconds / len(images)


def _bytes_of_a_name(root: pathlib.Path, count: int = 500_000) -> float:
  """Memory of a list of images as GLDv2's tables give it."""
  ids = ' '.join(f'{number:016x}' for number in range(count))
  (root / gldv2.TRAIN_TABLE).write_text(f'landmark_id,images\n7,{ids}\n')
  del ids
  before = resident_bytes()
  images = gldv2.load_train(root)
  assert len(images) == count
  return (resident_bytes() - before) / count


def _bytes_of_a_mapped_id(count: int = 1_000_000) -> float:
  """Memory of IDMap2's table from ids to rows."""
  before = resident_bytes()
  index = faiss.IndexIDMap2(faiss.IndexFlatL2(1))
  index.add_with_ids(np.zeros((count, 1), np.float32), np.arange(count))
  return (resident_bytes() - before) / count - _ID - 4


def _comparing_seconds(dimension: int) -> float:
  """Core-seconds of a comparison where vectors are assigned to lists."""
  random = np.random.default_rng(0)
  vectors = random.standard_normal((_ASSIGNED, dimension), np.float32)
  index = faiss.IndexFlatIP(dimension)
  index.add(random.standard_normal((_LISTS, dimension), np.float32))
  index.search(vectors, 1)
  with core_seconds() as taken:
    index.search(vectors, 1)
  return taken.seconds / (_ASSIGNED * _LISTS)


def _recipe(kind: str, count: int, dimension: int) -> Recipe:
  return complete_recipe(Recipe(kind), count, dimension)


def _inverted_bytes(kind: str, count: int, dimension: int) -> float:
  """Bytes a vector of lists: two ids, a share of the centroids, a code."""
  recipe = _recipe(kind, count, dimension)
  assert recipe.lists
  lists = recipe.lists * (4 * dimension + 8) / count
  if kind == 'ivf_flat':
    return 2 * _ID + 4 * dimension + lists
  assert recipe.bytes
  return 2 * _ID + recipe.bytes + lists + 4 * 256 * dimension / count


def _graph_bytes(count: int, dimension: int) -> float:
  """The vector, its id, its neighbours by layers, its level and its place."""
  M = _recipe('hnsw', count, dimension).neighbors
  assert M
  return 4 * dimension + _ID + 4 * (2 * M + M / (M - 1)) + 4 + 8


def _quantised_bytes(count: int, dimension: int) -> float:
  return dimension / 8 + _ID + 4 * 256 * dimension / count


KINDS = {
  'flat': Kind(lambda n, d: 'IDMap2,Flat', lambda n, d: 4 * d + _ID),
  'float16': Kind(lambda n, d: 'IDMap2,SQfp16', lambda n, d: 2 * d + _ID),
  'SQ8': Kind(lambda n, d: 'IDMap2,SQ8', lambda n, d: d + _ID + 2 * 4 * d / n),
  'PQ': Kind(lambda n, d: f'IDMap2,PQ{d // 8}x8np', _quantised_bytes),
  'ivf_flat': Kind(
    lambda n, d: _recipe('ivf_flat', n, d).factory,
    lambda n, d: _inverted_bytes('ivf_flat', n, d),
  ),
  'ivf_pq': Kind(
    lambda n, d: _recipe('ivf_pq', n, d).factory,
    lambda n, d: _inverted_bytes('ivf_pq', n, d),
  ),
  'hnsw': Kind(lambda n, d: _recipe('hnsw', n, d).factory, _graph_bytes),
}


def measure_indexes(
  store: pathlib.Path, count: int, dimension: int
) -> dict[str, tuple[float, float]]:
  """Builds an index of each kind.

  Returns:
    Of each kind the bytes of a vector, and the core-seconds to build it.
  """
  vectors = open_store(store).read()
  faiss.normalize_L2(vectors)
  sizes = {}
  for name, kind in KINDS.items():
    factory = kind.factory(count, dimension)
    index: Any = faiss.index_factory(
      dimension, factory, faiss.METRIC_INNER_PRODUCT
    )
    with core_seconds() as taken:
      index.train(vectors)
      index.add_with_ids(vectors, np.arange(count))
    size = len(faiss.serialize_index(index)) / count
    sizes[name] = size, taken.seconds / count
  return sizes


def print_rates(
  rates: Rates, sizes: dict[str, tuple[float, float]], flags: argparse.Namespace
) -> None:
  """Prints what was measured."""
  embedding = _embedding_seconds(flags.architecture, flags.image_size)
  print(
    f'pack, longest side {flags.longest_side}: {1 / rates.packing:.0f} '
    f'images/s a core, {rates.record / 1e3:.1f} kB a record\n'
    f'decode and squash to {flags.image_size}: {1 / rates.decoding:.0f} '
    'images/s a core\n'
    f'embed, {flags.architecture} at {flags.image_size} on '
    f'{jax.devices()[0].device_kind}: {1 / embedding:.1f} images/s a core\n'
    f'store: {rates.stored:.0f} bytes a vector of width {flags.dimension}\n'
    f'memory: {rates.name:.0f} bytes a name, {rates.mapped:.0f} an id in '
    'IDMap2 beyond the file\n'
    f'compare: {1e-6 / rates.comparing:.0f} million pairs/s a core\n\n'
    f'bytes a vector, {flags.vectors} × {flags.dimension}:\n'
    f'{"kind":<10}{"measured":>10}{"formula":>10}{"core-µs to build":>18}'
  )
  for name, (size, seconds) in sizes.items():
    formula = KINDS[name].formula(flags.vectors, flags.dimension)
    print(f'{name:<10}{size:>10.1f}{formula:>10.1f}{seconds * 1e6:>18.0f}')


def _embedding_seconds(architecture: str, size: int, count: int = 32) -> float:
  """Core-seconds an image of an encoder with fresh weights, on this CPU."""
  encoder = draw_encoder(architecture, size, 'float32')
  images = parallel.shard(
    np.zeros((count * jax.local_device_count(), size, size, 3), np.uint8)
  )
  jax.block_until_ready(encoder.embed(images))
  with core_seconds() as taken:
    jax.block_until_ready(encoder.embed(images))
  return taken.seconds / (count * jax.local_device_count())


def print_table(
  counts: list[int], rates: Rates, flags: argparse.Namespace
) -> None:
  """Prints what some numbers of images take."""
  rate, dimension = flags.images_per_second, flags.dimension

  def line(what: str, of: Callable[[int], float]) -> None:
    values = ''.join(f'{_rounded(of(count)):>16}' for count in counts)
    print(f'{what:<42}{values}')

  print()
  line('images', float)
  line('packing, core-hours', lambda n: n * rates.packing / _HOUR)
  line('records, TB', lambda n: n * rates.record / _TB)
  line('decoding, core-hours', lambda n: n * rates.decoding / _HOUR)
  line(
    f'embedding, hours of a device at {rate:g}/s', lambda n: n / rate / _HOUR
  )
  line(
    f'such devices for {flags.hours:g} hours',
    lambda n: math.ceil(n / rate / _HOUR / flags.hours),
  )
  line('cores that decode for one', lambda n: rate * rates.decoding)
  line('store, GB', lambda n: n * rates.stored / _GB)
  line('names in a process, GB', lambda n: n * rates.name / _GB)
  for name, kind in KINDS.items():
    line(f'index {name}, GB', functools.partial(_index_gb, kind, dimension))
  line("IDMap2's table beside it, GB", lambda n: n * rates.mapped / _GB)
  line(
    'lists found and filled, core-hours',
    lambda n: _comparisons(n, dimension) * rates.comparing / _HOUR,
  )


def _index_gb(kind: Kind, dimension: int, count: int) -> float:
  return count * kind.formula(count, dimension) / _GB


def _comparisons(count: int, dimension: int) -> float:
  """Of vectors with centroids, to find `ivf_pq`'s lists and fill them."""
  lists = _recipe('ivf_pq', count, dimension).lists
  assert lists
  return lists * (count + _ROUNDS * _PER_LIST * lists)


def _rounded(value: float) -> str:
  """Three digits, without an exponent."""
  if value == 0:
    return '0'
  digits = max(2 - math.floor(math.log10(abs(value))), 0)
  return f'{round(value, digits):,.{digits if value < 100 else 0}f}'


class Taken:
  """What `core_seconds` has measured."""

  seconds = 0.0


@contextlib.contextmanager
def core_seconds() -> Iterator[Taken]:
  """Measures the processor's time of all threads of this process."""
  taken = Taken()
  start = time.process_time()
  yield taken
  taken.seconds = time.process_time() - start


def resident_bytes() -> int:
  """The memory that this process holds now."""
  pages = pathlib.Path('/proc/self/statm').read_text().split()[1]
  return int(pages) * 4096


if __name__ == '__main__':
  main()
