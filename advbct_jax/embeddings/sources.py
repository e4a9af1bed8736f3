"""Where the embeddings of an image set come from: an encoder, or stores.

A source maps an image set to its complete store.
"""

from collections.abc import Callable
import dataclasses
import pathlib
import shutil

import numpy as np

from advbct_jax.data.images import ImageSet, digest_ids
from advbct_jax.data.pipeline import LoadBatch
from advbct_jax.embeddings.extract import FrozenEncoder, extract
from advbct_jax.embeddings.store import (
  EmbeddingStore,
  is_store,
  open_store,
  write_store,
)
from advbct_jax.errors import InputError
from advbct_jax.locks import hold_name

Source = Callable[[ImageSet], EmbeddingStore]


def store_name(image_set: ImageSet) -> str:
  """What the store of an image set is called in a folder of stores.

  Images that are cropped to their boxes are other images, so they have a store
  of their own.
  """
  cropped = '' if image_set.boxes is None else '-cropped'
  return f'{image_set.name}{cropped}'


def from_encoder(
  encoder: FrozenEncoder,
  folder: pathlib.Path,
  *,
  batch_size: int,
  workers: int,
  load: LoadBatch | None = None,
) -> Source:
  """Embeds what is not in a folder of stores yet.

  Args:
    encoder: embeds.
    folder: of the encoder's stores.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    load: decodes the set that it is of, where there is a loader already.
  """

  def source(image_set: ImageSet) -> EmbeddingStore:
    return extract(
      encoder,
      image_set,
      folder / store_name(image_set),
      batch_size=batch_size,
      workers=workers,
      load=load if load and load.image_set is image_set else None,
    )

  return source


def from_stores(path: pathlib.Path, selections: pathlib.Path) -> Source:
  """Takes embeddings that are there already.

  Args:
    path: a folder of stores, each called as its image set is (`store_name`), or
      one store that has all images. Rows are found by their ids, whatever their
      order.
    selections: a folder for rows that are taken out of a store.

  Raises:
    InputError: if there are no stores at the path.
  """
  if path.is_file():
    raise InputError(
      f'{path}: a file. Weights become a workdir first, by advbct '
      'convert from-pytorch; vectors become a store, by to-store.'
    )
  if not is_store(path) and not any(map(is_store, _folders(path))):
    raise InputError(
      f'{path}: neither the workdir of a run (no config.json), nor an '
      'embedding store (no card.json), nor a folder of stores. Check the path.'
    )

  def source(image_set: ImageSet) -> EmbeddingStore:
    store = open_named_store(path, store_name(image_set), image_set.name)
    return _select(store, image_set, selections)

  return source


def open_named_store(path: pathlib.Path, *names: str) -> EmbeddingStore:
  """Opens the store at a path, or the one of a name in a folder of stores.

  Args:
    path: a store or a folder of stores.
    names: what the store may be called, the best name first. Who made vectors
      elsewhere may not tell crops from whole images.

  Raises:
    InputError: if there is none, or it is incomplete or damaged.
  """
  if is_store(path):
    return open_store(path)
  named = [path / name for name in names if is_store(path / name)]
  return open_store(named[0] if named else path / names[0])


def find_rows(store: EmbeddingStore, image_set: ImageSet) -> np.ndarray:
  """Finds the rows of images in a store by their ids.

  Returns:
    [N] positions in the store, in the order of the images.

  Raises:
    InputError: if the store lacks some of them.
  """
  row_of = {image_id: row for row, image_id in enumerate(store.ids())}
  missing = [image_id for image_id in image_set.ids if image_id not in row_of]
  if missing:
    raise InputError(
      f'{store.path}: it has no embedding of {len(missing)} of the '
      f'{len(image_set)} images of {image_set.name}, such as {missing[0]}. '
      'Name a store that has them all, or a folder with a store called '
      f'{store_name(image_set)}.'
    )
  return np.array([row_of[image_id] for image_id in image_set.ids])


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
  return [item for item in path.iterdir()] if path.is_dir() else []


def _select(
  store: EmbeddingStore, image_set: ImageSet, selections: pathlib.Path
) -> EmbeddingStore:
  """The rows of a store that belong to an image set, as a store."""
  digest = image_set.ids_digest()
  if store.card.ids_digest == digest:
    return store
  rows = find_rows(store, image_set)
  labels = store.labels()
  if labels is not None:
    labels = [labels[row] for row in rows]
  card = dataclasses.replace(
    store.card,
    images=image_set.name,
    ids_digest=digest,
    labels_digest=None if labels is None else digest_ids(labels),
    count=len(image_set),
    complete=False,
  )
  path = selections / store_name(image_set)
  if path.resolve() == store.path.resolve():
    raise InputError(
      f'{path}: the rows of {image_set.name} would be put there, but that is '
      'where they come from. Choose another --workdir.'
    )
  with hold_name(path, 'selects rows for the store'):
    embeddings = store.read_rows(rows)
    # Only a copy: one of another store, or one that a kill cut short, may go.
    shutil.rmtree(path, ignore_errors=True)
    return write_store(path, card, image_set.ids, embeddings, labels)
