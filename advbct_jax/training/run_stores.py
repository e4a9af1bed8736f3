"""The stores that a trained encoder fills, which lie in its workdir."""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib

from advbct_jax import processes
from advbct_jax.data import gldv2
from advbct_jax.data.images import ImageSet
from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.data.pipeline import Loader
from advbct_jax.embeddings.extract import FrozenEncoder, extract
from advbct_jax.embeddings.extract_on_beam import extract_on_beam
from advbct_jax.embeddings.named_stores import open_named_store, store_name
from advbct_jax.embeddings.sources import Source, from_encoder
from advbct_jax.embeddings.store import DEFAULT_CHUNK_ROWS, EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import (
  is_workdir,
  load_encoder,
  read_config,
)
from advbct_jax.training.workdir import require_finished


def open_run(
  workdir: pathlib.Path,
  *,
  batch_size: int,
  workers: int,
  dtype: str = 'float32',
  load: Loader | None = None,
  features: str = '',
) -> tuple[FrozenEncoder, Source]:
  """Takes the encoder of a run, and what it says about images.

  Args:
    workdir: of a finished run.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoder computes in, `float32` or `bfloat16`.
    load: gives the set that it is of, where there is a loader already.
    features: where the features that a head takes lie; '' for where they lay
      when it was trained.

  Returns:
    The encoder, and a source that fills or opens the store of a set of images,
    WORKDIR/embeddings/NAME.

  Raises:
    InputError: if the run is not finished.
  """
  require_finished(workdir)
  encoder = load_encoder(workdir, dtype, features)
  return encoder, from_encoder(
    encoder,
    workdir / 'embeddings',
    batch_size=batch_size,
    workers=workers,
    load=load,
  )


def encoder_width(path: str | pathlib.Path, data_name: str) -> int:
  """How wide an encoder's vectors are.

  Args:
    path: the workdir of a run, a store, or a folder of stores.
    data_name: of a data set, of whose training images there is a store.

  Raises:
    InputError: if there is nothing of the kind.
  """
  path = pathlib.Path(path)
  if is_workdir(path):
    return read_config(path).model.dimension
  return open_named_store(path, f'{data_name}-train').card.dimension


def embed_named_sets(
  workdir: pathlib.Path,
  data: Sequence[str] = (),
  data_root: str = '',
  data_name: str = '',
  *,
  crop_queries: bool = True,
  batch_size: int = 256,
  workers: int = 0,
  dtype: str = 'float32',
  features: str = '',
  chunk_rows: int = DEFAULT_CHUNK_ROWS,
  beam: str | None = None,
) -> list[EmbeddingStore]:
  """Fills or opens a run's stores of training images or of retrieval sets.

  Args:
    workdir: of a finished run.
    data: retrieval sets, NAME or NAME:ROOT; none for the training images.
    data_root: where each NAME lies, or a folder in GLDv2's layout with the
      training images; '' for that of the run's config.
    data_name: what the training images are called; '' for the name in the
      run's config.
    crop_queries: whether queries that have boxes are cropped to them.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoder computes in, `float32` or `bfloat16`.
    features: the stores of what a head takes; '' for those of the run's config.
    chunk_rows: images a chunk of a store that isn't there yet.
    beam: options of Apache Beam, whose workers embed; None embeds here.

  Returns:
    The complete stores: of the training images, or of the index and the queries
    of each retrieval set.

  Raises:
    InputError: if the run is not finished, or the images cannot be found.
  """
  if chunk_rows < 1:
    raise InputError(
      f'--chunk_rows: found {chunk_rows}, wanted a number of images, such as '
      f'{DEFAULT_CHUNK_ROWS}.'
    )
  if beam is not None and processes.count() > 1:
    raise InputError(
      f'--beam: {processes.count()} processes were started, and each would '
      'hand all of the work out; wanted: one, which does so.'
    )
  require_finished(workdir)
  open_encoder = functools.partial(load_encoder, workdir, dtype, features)
  open_sets = functools.partial(
    _open_image_sets, workdir, list(data), data_root, data_name, crop_queries
  )
  folder = workdir / 'embeddings'
  if beam is not None:
    return extract_on_beam(
      open_encoder,
      open_sets,
      folder,
      batch_size=batch_size,
      workers=workers,
      chunk_rows=chunk_rows,
      options=beam,
    )
  image_sets = open_sets()
  encoder = open_encoder()
  return [
    extract(
      encoder,
      image_set,
      folder / store_name(image_set),
      batch_size=batch_size,
      workers=workers,
      chunk_rows=chunk_rows,
    )
    for image_set in image_sets
  ]


def _open_image_sets(
  workdir: pathlib.Path,
  data: Sequence[str],
  data_root: str,
  data_name: str,
  crop_queries: bool,
) -> list[ImageSet]:
  """The training images of a run, or those of retrieval sets."""
  configured = read_config(workdir).data
  root = data_root or configured.get('root', '')
  if data:
    return [
      image_set
      for retrieval_set in open_retrieval_sets(
        data, root, crop_queries, configured.max_pixels
      )
      for image_set in (retrieval_set.gallery, retrieval_set.queries)
    ]
  return [
    dataclasses.replace(
      _training_set(workdir, root, data_name or configured.get('name', '')),
      max_pixels=configured.max_pixels,
    )
  ]


def _training_set(workdir: pathlib.Path, root: str, name: str) -> ImageSet:
  if not root or not name:
    raise InputError(
      f'{workdir}: its config names no training images; wanted: --data_root, '
      'the folder with train_clean.csv, and --data_name.'
    )
  return gldv2.load_train(pathlib.Path(root), name)
