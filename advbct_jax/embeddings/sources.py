"""Where the embeddings of an image set come from: an encoder, or stores.

A source maps an image set to its complete store.
"""

from collections.abc import Callable
import dataclasses
import pathlib
import shutil

from advbct_jax import processes
from advbct_jax.data.images import ImageSet, digest_ids
from advbct_jax.data.pipeline import Loader
from advbct_jax.embeddings.extract import FrozenEncoder, extract
from advbct_jax.embeddings.named_stores import (
  find_rows,
  open_named_store,
  store_name,
)
from advbct_jax.embeddings.store import (
  EmbeddingStore,
  is_store,
  write_store,
)
from advbct_jax.errors import InputError
from advbct_jax.locks import hold_name

Source = Callable[[ImageSet], EmbeddingStore]


def from_encoder(
  encoder: FrozenEncoder,
  folder: pathlib.Path,
  *,
  batch_size: int,
  workers: int,
  load: Loader | None = None,
) -> Source:
  """Embeds what is not in a folder of stores yet.

  Args:
    encoder: embeds.
    folder: of the encoder's stores.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    load: gives the set that it is of, where there is a loader already.
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
    return processes.from_first(lambda: _select(store, image_set, selections))

  return source


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
