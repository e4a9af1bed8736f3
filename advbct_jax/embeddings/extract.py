"""A frozen encoder, and what it says about a set of images."""

import collections
from collections.abc import Iterable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import pathlib
from typing import Any

from flax import traverse_util
import jax
import numpy as np
import tqdm

from advbct_jax import parallel, processes
from advbct_jax.data.augmentation import normalize
from advbct_jax.data.images import NORMALIZATIONS, ImageSet
from advbct_jax.data.pipeline import (
  LoadBatch,
  Loader,
  make_loader,
  ordered_batches,
)
from advbct_jax.embeddings.features import FeatureRows, StoredFeatures
from advbct_jax.embeddings.store import (
  DEFAULT_CHUNK_ROWS,
  Card,
  EmbeddingStore,
  create_store,
)
from advbct_jax.errors import InputError
from advbct_jax.models.encoder import Encoder

# Batches that the device has to do while the host fetches an earlier one. Two
# bridge a late batch of images; more would only take memory.
_BATCHES_UNDER_WAY = 2


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
  """A trained encoder, ready to embed.

  >>> import advbct_jax
  >>> encoder = advbct_jax.load_encoder('runs/demo')
  >>> encoder.name, encoder.image_size, encoder.module.dimension
  ('tiny', 16, 8)

  Attributes:
    name: of its architecture.
    module: the encoder.
    variables: its parameters and BatchNorm statistics.
    image_size: side in pixels that images are squashed to; 0 for a head on
      stored features.
    normalization: of their pixels, a key of `NORMALIZATIONS`.
    compatible_dimension: how many of the first components of its embeddings
      can be compared with the old encoder's; 0 for all.
    features: what a head takes in the place of images; None for an encoder of
      images.
    resampling: how images are squashed, a key of `RESAMPLINGS`.
  """

  name: str
  module: Encoder
  variables: Any
  image_size: int
  normalization: str = 'imagenet'
  compatible_dimension: int = 0
  features: StoredFeatures | None = None
  resampling: str = 'bilinear'

  @property
  def compute_dtype(self) -> str:
    """What the backbone computes in: `float32` or `bfloat16`."""
    dtype = self.module.backbone.dtype
    return 'float32' if dtype is None else np.dtype(dtype).name

  @functools.cached_property
  def digest(self) -> str:
    """A digest of all weights and statistics."""
    digest = hashlib.sha256()
    flat = traverse_util.flatten_dict(self.variables, sep='/')
    for name in sorted(flat):
      digest.update(name.encode())
      digest.update(np.ascontiguousarray(flat[name]).tobytes())
    return digest.hexdigest()

  @functools.cached_property
  def embed(self) -> Any:
    """Maps sharded [devices, B, H, W, 3] uint8 images to embeddings.

    Of a head it maps [devices, B, E] features.
    """
    embed = _compiled_embed(
      self.module,
      None if self.features else self.normalization,
      self.compute_dtype,
      jax.default_backend(),
    )
    return functools.partial(embed, parallel.replicate(self.variables))

  def loader(
    self, image_set: ImageSet, memory_mib: int | None = None
  ) -> Loader:
    """Makes a loader of what this encoder takes of a set.

    Args:
      image_set: N images.
      memory_mib: how much memory, in MiB, they may take; None keeps no decoded
        images there, and features as `StoredFeatures.loader` does.

    Raises:
      InputError: if a head has no features of some of them.
    """
    if not self.features:
      return make_loader(
        image_set, self.image_size, memory_mib or 0, self.resampling
      )
    if memory_mib is None:
      return self.features.loader(image_set)
    return self.features.loader(image_set, memory_mib)

  def takes(self, load: Loader) -> bool:
    """Whether a loader gives what this encoder takes."""
    if isinstance(load, FeatureRows):
      return load.features == self.features
    return (
      not self.features
      and isinstance(load, LoadBatch)
      and (load.size, load.resampling) == (self.image_size, self.resampling)
    )

  def card(self, image_set: ImageSet, chunk_rows: int) -> Card:
    """The identity card of a store that this encoder fills."""
    size = f'{self.image_size}x{self.image_size}'
    preprocessing = (
      f'RGB, squashed to {size} (PIL {self.resampling}), '
      f'{NORMALIZATIONS[self.normalization].description}'
    )
    return Card(
      encoder=self.name,
      weights=self.digest,
      dimension=self.module.dimension,
      compatible_dimension=self.compatible_dimension,
      preprocessing=(
        self.features.describe() if self.features else preprocessing
      ),
      images=image_set.name,
      cropped=image_set.boxes is not None,
      upright=image_set.upright,
      ids_digest=image_set.ids_digest(),
      count=len(image_set),
      compute_dtype=self.compute_dtype,
      chunk_rows=chunk_rows,
    )


# One encoder after the other is embedded with while it is trained: they differ
# in their variables alone, so they share what is compiled. The backend is an
# argument since convolutions go by it, and a cache sees only its arguments.
@functools.lru_cache(maxsize=4)
def _compiled_embed(
  module: Encoder, normalization: str | None, compute_dtype: str, backend: str
) -> Any:
  """Maps variables and sharded uint8 images, or features, to embeddings."""

  def embed(variables: Any, images: jax.Array) -> Any:
    # Left to themselves GPUs multiply float32 as TF32, and TPUs as bfloat16: a
    # store would depend on the machine that filled it. Convolutions go by this
    # too. A bfloat16 backbone has nothing to gain from it.
    with (
      jax.default_matmul_precision('highest')
      if compute_dtype == 'float32'
      else contextlib.nullcontext()
    ):
      if normalization is not None:
        images = normalize(images, normalization)
      return module.apply(variables, images, train=False)

  return parallel.map_apply(embed)


def extract(
  encoder: FrozenEncoder,
  image_set: ImageSet,
  path: pathlib.Path,
  *,
  batch_size: int = 256,
  workers: int = 0,
  load: Loader | None = None,
  chunk_rows: int = DEFAULT_CHUNK_ROWS,
) -> EmbeddingStore:
  """Fills a store with the embeddings of a set of images.

  What an earlier call has stored is kept: a killed extraction goes on at the
  chunk that it was killed in, and a complete store is only opened. Several
  processes deal the chunks out among themselves. What a device gets at a time
  goes by the number of all devices, so that a store is the same bit for bit
  whichever processes these belong to.

  Args:
    encoder: embeds.
    image_set: N images.
    path: the store's folder.
    batch_size: images at a time, over all devices of all processes.
    workers: processes that decode images; 0 takes threads.
    load: gives the set, where there is a loader already; one that squashes
      otherwise, or has other features, than the encoder wants is not used.
    chunk_rows: images a chunk.

  Returns:
    The complete store.

  Raises:
    InputError: if the folder holds the store of another encoder or of other
      images, another run fills it, or an image cannot be read.
  """
  card = encoder.card(image_set, chunk_rows)
  processes.require_same(f'{path}: what fills this store', card)
  store = processes.from_first(lambda: create_store(path, card, image_set.ids))
  if store.card.complete:
    return store
  processes.require_shared(store.path)
  with store.filling():
    missing = processes.from_first(store.missing_chunks)
    mine = missing[processes.index() :: processes.count()]
    fill_chunks(store, mine, encoder, image_set, batch_size, workers, load)
    processes.meet()
    return processes.from_first(functools.partial(_finish, store))


def _finish(store: EmbeddingStore) -> EmbeddingStore:
  """Closes a store, once what the other processes have written is seen."""
  processes.comes_true(lambda: not store.missing_chunks())
  return store.finish()


def fill_chunks(
  store: EmbeddingStore,
  chunks: Sequence[int],
  encoder: FrozenEncoder,
  image_set: ImageSet,
  batch_size: int,
  workers: int,
  load: Loader | None = None,
  show_progress: bool = True,
) -> None:
  """Writes chunks that a store lacks; see `extract`."""
  if load is None or not encoder.takes(load):
    load = encoder.loader(image_set)
  batch_size = _shared_batch_size(len(image_set), batch_size)
  batches_of = {
    chunk: _cut(store.rows_of(chunk), batch_size) for chunk in chunks
  }
  rows = [batch for batches in batches_of.values() for batch in batches]
  with (
    contextlib.closing(ordered_batches(load, rows, workers)) as loaded,
    tqdm.tqdm(
      desc=f'{encoder.name} embeds {image_set.name}',
      total=sum(map(len, rows)),
      unit=' images',
      disable=not (show_progress and processes.is_first()),
    ) as progress,
  ):
    embedded = _embed_ahead(
      encoder, (batch['image'] for batch in loaded), batch_size
    )
    for chunk, batches in batches_of.items():
      embeddings = []
      for batch in itertools.islice(embedded, len(batches)):
        embeddings.append(batch)
        progress.update(len(batch))
      store.write_chunk(chunk, np.concatenate(embeddings))


def embed_all(
  encoder: FrozenEncoder,
  load: Loader,
  *,
  batch_size: int = 256,
  workers: int = 0,
) -> np.ndarray:
  """Embeds a set of images in memory.

  Args:
    encoder: embeds.
    load: gives the N images of a set, or their features.
    batch_size: images at a time, over all devices of this process.
    workers: processes that decode images; 0 takes threads.

  Returns:
    [N, D] float32.
  """
  count = len(load.image_set)
  batch_size = _shared_batch_size(count, batch_size)
  rows = _cut(slice(0, count), batch_size)
  with contextlib.closing(ordered_batches(load, rows, workers)) as loaded:
    images = (batch['image'] for batch in loaded)
    return np.concatenate([*_embed_ahead(encoder, images, batch_size)])


def _shared_batch_size(count: int, batch_size: int) -> int:
  """This process's batch, of which every device takes the same share.

  A row's last digits may go by how many rows its device has, and where in them
  it stands; neither goes by which process the device belongs to.
  """
  share = -(-min(batch_size, count) // parallel.device_count())
  return share * jax.local_device_count()


def _cut(rows: slice, size: int) -> list[np.ndarray]:
  """Cuts rows into batches of at most a size."""
  return [
    np.arange(start, min(start + size, rows.stop))
    for start in range(rows.start, rows.stop, size)
  ]


def _embed_ahead(
  encoder: FrozenEncoder, batches: Iterable[np.ndarray], batch_size: int
) -> Iterator[np.ndarray]:
  """Embeds batches, of which some are under way while one is given back.

  Calling the encoder only queues its work, and fetching waits for it. So the
  device goes on while the host waits for images or writes a chunk.

  Args:
    encoder: embeds.
    batches: [≤ batch_size, H, W, 3] images each, or [≤ batch_size, E] features.
    batch_size: what smaller ones are filled up to, so that nothing compiles
      anew.

  Yields:
    [as many, D] embeddings of each batch, in order.
  """
  under_way: collections.deque[tuple[Any, int]] = collections.deque()

  def fetch() -> np.ndarray:
    embedded, count = under_way.popleft()
    return np.asarray(embedded).reshape(batch_size, -1)[:count]

  failure = None
  try:
    for images in batches:
      count = len(images)
      if count < batch_size:
        images = np.pad(
          images, [(0, batch_size - count)] + [(0, 0)] * (images.ndim - 1)
        )
      under_way.append((encoder.embed(parallel.shard(images)), count))
      if len(under_way) > _BATCHES_UNDER_WAY:
        yield fetch()
  except InputError as error:
    failure = error
  # Those before an image that cannot be read may complete a chunk, which need
  # not be done again then.
  while under_way:
    yield fetch()
  if failure:
    raise failure
