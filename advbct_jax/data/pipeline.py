"""From image sets to batches: Grain shuffles, and decodes ahead."""

from collections.abc import Generator, Iterator, Sequence
from concurrent import futures
import contextlib
import dataclasses
import functools
import math
import os
import signal
import sys
import threading
from typing import Protocol

from absl import flags
import grain
import numpy as np

from advbct_jax import processes
from advbct_jax.data.images import ImageSet, load_all
from advbct_jax.data.worker_processes import (
  explain_failures,
  require_shared_memory,
)
from advbct_jax.errors import InputError

Batch = dict[str, np.ndarray]

# Batches that are decoded ahead of the device. More would take memory only: the
# cores share the images of a batch among them.
_BATCHES_AHEAD = 4

# Images that a thread decodes at a time. Small ones take no longer to decode
# than to hand over one by one.
_PIECE = 8

# Fewer would leave a small machine waiting for its disk.
_LEAST_THREADS = 4


class Loader(Protocol):
  """Gives what encoders take of the images in given rows of a set."""

  @property
  def image_set(self) -> ImageSet:
    """The N images."""
    ...

  @property
  def shape(self) -> tuple[int, ...]:
    """Of what an encoder takes of one image."""
    ...

  @property
  def decodes(self) -> bool:
    """Whether a batch costs so much that threads or processes should share it.

    Where not, rows are only copied out of an array.
    """
    ...

  def open(self) -> None:
    """Does what is to be done once, before threads ask for batches."""
    ...

  def __call__(
    self, rows: np.ndarray, pool: futures.Executor | None = None
  ) -> Batch:
    """{image [B, *shape], row [B] int32} of [B] rows."""
    ...


@dataclasses.dataclass(frozen=True)
class LoadBatch:
  """Decodes the images in given rows of a set.

  Attributes:
    image_set: N images.
    size: side in pixels that images are squashed to.
    decoded: [N, size, size, 3] the decoded images, where they fit in memory.
    resampling: a key of `RESAMPLINGS`.
  """

  image_set: ImageSet
  size: int
  decoded: np.ndarray | None = None
  resampling: str = 'bilinear'

  @property
  def shape(self) -> tuple[int, ...]:
    """[size, size, 3] of an image."""
    return self.size, self.size, 3

  @property
  def decodes(self) -> bool:
    """Whether images are decoded when they are asked for."""
    return self.decoded is None

  def open(self) -> None:
    """Nothing: what could be decoded beforehand is."""

  def __call__(
    self, rows: np.ndarray, pool: futures.Executor | None = None
  ) -> Batch:
    """Decodes a batch.

    Args:
      rows: [B] of the set.
      pool: decodes pieces of the batch side by side, where there is one.

    Returns:
      {image [B, size, size, 3] uint8, row [B] int32}.
    """
    if self.decoded is not None:
      images = self.decoded[rows]
    else:
      pieces = np.array_split(rows, -(-len(rows) // _PIECE))
      decode = pool.map if pool else map
      images = np.concatenate(list(decode(self._decode, pieces)))
    return {'image': images, 'row': rows.astype(np.int32)}

  def _decode(self, rows: np.ndarray) -> np.ndarray:
    load = self.image_set.load
    return np.stack([load(row, self.size, self.resampling) for row in rows])


def make_loader(
  image_set: ImageSet,
  size: int,
  memory_mib: int = 0,
  resampling: str = 'bilinear',
) -> LoadBatch:
  """Makes a loader that decodes small sets once and keeps them in memory.

  Args:
    image_set: the images.
    size: side in pixels that images are squashed to.
    memory_mib: how much memory, in MiB, decoded images may take; a set that
      takes more is decoded anew in every epoch.
    resampling: a key of `RESAMPLINGS`.
  """
  fits = len(image_set) * size * size * 3 <= memory_mib * 2**20
  decoded = load_all(image_set, size, resampling) if fits else None
  return LoadBatch(image_set, size, decoded, resampling)


def training_batches(
  load: Loader,
  rows: np.ndarray,
  *,
  batch_size: int,
  seed: int,
  start: int = 0,
  workers: int = 0,
) -> Generator[Batch, None, None]:
  """Shuffled batches without end; every epoch sees the rows in a new order.

  Batch number i is the same wherever the iteration starts and however many
  workers there are, so the step of a checkpoint is the position in the data.
  With several processes each gets its own part of every global batch, in the
  order of the processes.

  Args:
    load: gives a batch.
    rows: [n] which rows of the image set to train on.
    batch_size: images a step, over all processes.
    seed: of the order.
    start: the number of the first batch.
    workers: processes that decode; 0 takes threads of this process.

  Returns:
    {image [B, *shape], row [B] int32}, again and again; images are uint8.

  Raises:
    InputError: if a batch is larger than the set; with the first batch, if the
      workers' batches don't fit into shared memory; or if a worker dies.
  """
  if len(rows) < batch_size:
    raise InputError(
      f'{load.image_set.name}: {len(rows)} training images are fewer than one '
      f'batch of {batch_size}. Lower config.batch_size.'
    )
  order = _BatchOrder(rows, batch_size, seed)
  # Grain draws each epoch's order from the seed and the epoch, so the number of
  # a batch is all the state there is.
  dataset = grain.MapDataset.range(start, sys.maxsize).map(order)
  return _decode(dataset, load, batch_size // processes.count(), workers)


class _BatchOrder:
  """From the number of a batch to the rows in this process's part of it.

  They are asked of Grain's shuffle directly: the stages that would repeat, cut
  and stack them take longer for a row than training a head on it does.
  """

  def __init__(self, rows: np.ndarray, batch_size: int, seed: int):
    self._rows = rows
    self._batch_size = batch_size
    self._part = batch_size // processes.count()
    self._place = processes.index() * self._part
    self._shuffled = grain.MapDataset.range(len(rows)).seed(seed).shuffle()

  def __call__(self, number: int) -> np.ndarray:
    count = len(self._rows)
    epoch, batch = divmod(int(number), count // self._batch_size)
    # Rows are shuffled before some are cut off, so that every epoch leaves
    # others out.
    first = epoch * count + batch * self._batch_size + self._place
    places = range(first, first + self._part)
    return self._rows[[self._shuffled[place] for place in places]]


def ordered_batches(
  load: Loader, batches: Sequence[np.ndarray], workers: int = 0
) -> Generator[Batch, None, None]:
  """Batches of given rows, in order.

  Args:
    load: gives a batch.
    batches: the rows [≤ B] of each batch.
    workers: processes that decode; 0 takes threads of this process.

  Raises:
    InputError: with the first batch, if the workers' batches don't fit into
      shared memory; or if a worker dies.
  """
  largest = max(map(len, batches), default=0)
  return _decode(grain.MapDataset.source(batches), load, largest, workers)


def _decode(
  batches: grain.MapDataset, load: Loader, batch_size: int, workers: int
) -> Generator[Batch, None, None]:
  """Decodes batches of rows ahead of their use."""
  load.open()
  pool = None
  if not workers and load.decodes:
    threads = max(usable_cores(), _LEAST_THREADS)
    pool = futures.ThreadPoolExecutor(threads, 'decode')
  dataset = batches.map(functools.partial(load, pool=pool)).to_iter_dataset(
    grain.ReadOptions(
      num_threads=_BATCHES_AHEAD, prefetch_buffer_size=_BATCHES_AHEAD
    )
  )
  # Decoded sets would be copied into every worker, and need none.
  workers = workers if load.decodes else 0
  if workers:
    batch_bytes = batch_size * math.prod(load.shape)
    require_shared_memory(batch_bytes, workers, len(batches))
    # Grain asks flags of its own, which no command line here speaks of.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=workers)
    )
  iterator = iter(dataset)
  try:
    # Workers start with the first batch. A terminal sends Ctrl-C to them too;
    # they must live on while the main process saves.
    with _ctrl_c_ignored(), explain_failures(workers):
      batch = next(iterator, None)
    while batch is not None:
      yield batch
      with explain_failures(workers):
        batch = next(iterator, None)
  finally:
    iterator.close()
    if pool:
      pool.shutdown(cancel_futures=True)


def usable_cores() -> int:
  """How many cores this process may run on, of those that the machine has."""
  if sys.version_info >= (3, 13):
    return os.process_cpu_count() or 1
  if sys.platform == 'linux':
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
  """Ignores Ctrl-C, which processes started meanwhile inherit."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)
