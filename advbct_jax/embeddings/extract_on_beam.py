"""Stores that Apache Beam's workers fill, a chunk at a time each."""

from collections.abc import Callable, Sequence
import contextlib
import functools
import pathlib

from advbct_jax import beam_workers
from advbct_jax.data.images import ImageSet
from advbct_jax.embeddings.extract import FrozenEncoder, fill_chunks
from advbct_jax.embeddings.named_stores import store_name
from advbct_jax.embeddings.store import EmbeddingStore, create_store

OpenEncoder = Callable[[], FrozenEncoder]
OpenSets = Callable[[], Sequence[ImageSet]]


def extract_on_beam(
  open_encoder: OpenEncoder,
  open_sets: OpenSets,
  folder: pathlib.Path,
  *,
  batch_size: int,
  workers: int,
  chunk_rows: int,
  options: str,
) -> list[EmbeddingStore]:
  """Fills the stores of some sets of images, as `extract` would.

  Each worker process loads the encoder and the lists of images once, from the
  same files as this one. What is stored already is kept.

  Args:
    open_encoder: loads the encoder; a picklable function, as `open_sets` is.
    open_sets: opens the sets of images.
    folder: of the stores, which all workers see under this path.
    batch_size: images at a time, over all devices of a worker.
    workers: processes of each worker that decode images; 0 takes threads.
    chunk_rows: images a chunk of a new store, which are a task.
    options: of Beam's pipeline.

  Returns:
    The complete stores.

  Raises:
    InputError: as `extract` and `beam_workers.do_all` do; what of the chunks
      can be filled is.
  """
  folder = folder.absolute()
  opening = functools.partial(
    _open, open_encoder, open_sets, folder, chunk_rows
  )
  _, sets = opening()
  with contextlib.ExitStack() as held:
    for _, store in sets:
      held.enter_context(store.filling())
    tasks = [
      (number, chunk)
      for number, (_, store) in enumerate(sets)
      for chunk in store.missing_chunks()
    ]
    if tasks:
      beam_workers.do_all(
        functools.partial(_open_filling, opening, batch_size, workers),
        tasks,
        options,
        sets[0][1].path,
      )
    return [
      store if store.card.complete else store.finish() for _, store in sets
    ]


def _open(
  open_encoder: OpenEncoder,
  open_sets: OpenSets,
  folder: pathlib.Path,
  chunk_rows: int,
) -> tuple[FrozenEncoder, list[tuple[ImageSet, EmbeddingStore]]]:
  """Opens everything, and compares a store with what fills it."""
  encoder = open_encoder()
  return encoder, [
    (
      image_set,
      create_store(
        folder / store_name(image_set),
        encoder.card(image_set, chunk_rows),
        image_set.ids,
      ),
    )
    for image_set in open_sets()
  ]


def _open_filling(
  opening: Callable[
    [], tuple[FrozenEncoder, list[tuple[ImageSet, EmbeddingStore]]]
  ],
  batch_size: int,
  workers: int,
) -> beam_workers.Do:
  encoder, sets = opening()

  def fill(task: tuple[int, int]) -> None:
    number, chunk = task
    image_set, store = sets[number]
    if chunk in store.missing_chunks():
      fill_chunks(
        store,
        [chunk],
        encoder,
        image_set,
        batch_size,
        workers,
        show_progress=False,
      )

  return fill
