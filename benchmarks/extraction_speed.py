"""Embedding images into a store, beside the earlier way of taking turns.

  python -m benchmarks.extraction_speed [--images=2048] [--image_size=224]

Draws JPEGs and fills a store with them, round by round in two ways. `extract`
keeps batches under way on the device while threads, one a core, decode the next
ones. `in turns` is how it was done before: four threads decode a batch each on
any machine, and each batch is padded, embedded and fetched before the next one
is looked at. Prints images/s of each and the ratio of their times.
"""

import argparse
import itertools
import pathlib
import shutil
import tempfile

import grain
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from advbct_jax import parallel
from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.data.pipeline import make_loader, usable_cores
from advbct_jax.embeddings.extract import FrozenEncoder, extract
from advbct_jax.embeddings.store import create_store
from advbct_jax.models.encoder import COMPUTE_DTYPES, make_encoder
from benchmarks.timing import spread, time_in_turns

# As before: batches that are decoded ahead, each by a thread of its own.
_THREADS = 4
_CHUNK_ROWS = 1024


def draw_images(folder: pathlib.Path, count: int) -> ImageSet:
  """Draws JPEGs of 640 × 480 pixels, as coarse and as noisy as photos.

  Args:
    folder: where they go.
    count: how many.
  """
  random = np.random.default_rng(0)
  names = [f'{number:06}.jpg' for number in range(count)]
  for name in names:
    coarse = random.uniform(0, 255, (12, 16, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
    noisy = np.asarray(image) + random.normal(0, 8, (480, 640, 1))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name)
  return ImageSet('drawn', names, ImageFiles(folder, names))


def extract_in_turns(
  encoder: FrozenEncoder,
  image_set: ImageSet,
  path: pathlib.Path,
  batch_size: int,
) -> None:
  """Fills a store as it was done before.

  Args:
    encoder: embeds.
    image_set: N images.
    path: of the store, which is not there yet.
    batch_size: images at a time, a multiple of the number of devices.
  """
  card = encoder.card(image_set, _CHUNK_ROWS)
  store = create_store(path, card, image_set.ids)
  batches_of = {}
  for chunk in store.missing_chunks():
    rows = np.arange(card.count)[store.rows_of(chunk)]
    starts = range(0, len(rows), batch_size)
    batches_of[chunk] = [rows[start : start + batch_size] for start in starts]
  loaded = iter(
    grain.MapDataset.source(list(itertools.chain(*batches_of.values())))
    .map(make_loader(image_set, encoder.image_size))
    .to_iter_dataset(
      grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_THREADS)
    )
  )
  for chunk, batches in batches_of.items():
    embeddings = []
    for batch in itertools.islice(loaded, len(batches)):
      images = batch['image']
      padding = [(0, batch_size - len(images))] + [(0, 0)] * 3
      embedded = encoder.embed(parallel.shard(np.pad(images, padding)))
      embeddings.append(
        np.asarray(embedded).reshape(batch_size, -1)[: len(images)]
      )
    store.write_chunk(chunk, np.concatenate(embeddings))
  store.finish()


def draw_encoder(
  architecture: str, image_size: int, dtype: str
) -> FrozenEncoder:
  """An encoder with fresh weights."""
  module = make_encoder(architecture, dtype=dtype)
  image = jnp.zeros((1, image_size, image_size, 3))
  variables = jax.jit(module.init, static_argnames='train')(
    jax.random.key(0), image, train=False
  )
  return FrozenEncoder(architecture, module, variables, image_size)


def main() -> None:
  """Prints the comparison."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--architecture', default='resnet18')
  parser.add_argument('--dtype', choices=COMPUTE_DTYPES, default='float32')
  parser.add_argument('--images', type=int, default=2048)
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch_size', type=int, default=256)
  parser.add_argument('--rounds', type=int, default=7)
  arguments = parser.parse_args()
  print(
    f'{arguments.architecture} in {arguments.dtype}, {arguments.images} images '
    f'at {arguments.image_size} pixels, batch {arguments.batch_size}, '
    f'{jax.device_count()} × {jax.devices()[0].device_kind}, '
    f'{usable_cores()} cores'
  )
  encoder = draw_encoder(
    arguments.architecture, arguments.image_size, arguments.dtype
  )
  with tempfile.TemporaryDirectory() as name:
    folder, store = pathlib.Path(name), pathlib.Path(name, 'store')
    image_set = draw_images(folder, arguments.images)

    def under_way() -> None:
      shutil.rmtree(store, ignore_errors=True)
      extract(
        encoder,
        image_set,
        store,
        batch_size=arguments.batch_size,
        chunk_rows=_CHUNK_ROWS,
      )

    def in_turns() -> None:
      shutil.rmtree(store, ignore_errors=True)
      extract_in_turns(encoder, image_set, store, arguments.batch_size)

    seconds = time_in_turns(
      {'in turns': in_turns, 'extract': under_way}, arguments.rounds
    )
  for name, values in seconds.items():
    print(f'{name:<10} {spread(arguments.images / values, 1)} images/s')
  ratios = seconds['in turns'] / seconds['extract']
  print(f'time, in turns / extract: {spread(ratios)}')


if __name__ == '__main__':
  main()
