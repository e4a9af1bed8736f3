"""Stores found by the images that they are of, and images found in stores."""

import pathlib

import numpy as np

from advbct_jax.data.images import ImageSet
from advbct_jax.embeddings.store import EmbeddingStore, is_store, open_store
from advbct_jax.errors import InputError

# What the image sets of a data set are called after its name and a hyphen.
SPLITS = ('train', 'index', 'test')


def store_name(image_set: ImageSet) -> str:
  """What the store of an image set is called in a folder of stores.

  Images that are cropped to their boxes are other images, so they have a store
  of their own.
  """
  cropped = '' if image_set.boxes is None else '-cropped'
  return f'{image_set.name}{cropped}'


def open_named_store(path: pathlib.Path, *names: str) -> EmbeddingStore:
  """Opens the store at a path, or the one of a name in a folder of stores.

  Args:
    path: a store or a folder of stores.
    names: what the store may be called, the best name first. Who made vectors
      elsewhere may not tell crops from whole images. Last comes what follows
      the last name's hyphen: `train`, `index` or `test` of a data set whose
      folder says which set it is.

  Raises:
    InputError: if there is none, or it is incomplete or damaged.
  """
  if is_store(path):
    return open_store(path)
  split = names[-1].rpartition('-')[2]
  known = (*names, split) if split in SPLITS else names
  named = [path / name for name in known if is_store(path / name)]
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
