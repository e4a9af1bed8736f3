"""The old side of an upgrade: opened, or trained and extracted first."""

import pathlib

import ml_collections

from advbct_jax.data.images import ImageSet
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.embeddings.extract import FrozenEncoder, extract
from advbct_jax.embeddings.store import EmbeddingStore, is_store, open_store
from advbct_jax.errors import InputError
from advbct_jax.methods import METHODS
from advbct_jax.methods.method import OldModel
from advbct_jax.training.checkpoints import (
  is_workdir,
  latest_step,
  load_encoder,
  read_config,
)
from advbct_jax.training.loop import train
from advbct_jax.training.run import OldSide, Run
from advbct_jax.training.training_images import TrainingImages
from advbct_jax.training.workdir import claim_workdir, differences_between


def old_config(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """The config that trains the old encoder of an upgrade."""
  old = config.copy_and_resolve_references()
  old.method = 'independent'
  old.model = config.old.model
  old.epochs = config.old.epochs
  old.optimizer = config.old.optimizer
  old.data.part = 'old'
  # What only the new encoder is told may change while the old one stays.
  with old.unlocked():
    del old.old
    for method in METHODS.keys() & old.keys():
      del old[method]
  return old


def old_path(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path:
  """Where the old side of an upgrade lies."""
  return pathlib.Path(config.old.path or workdir / 'old')


def prepare_old_side(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  images: TrainingImages,
) -> OldSide:
  """Opens the old side of an upgrade; trains and extracts what is missing.

  Args:
    config: of the upgrade.
    workdir: of the upgrade; the old encoder goes to its folder `old`, unless
      the config names one.
    images: of the upgrade.

  Raises:
    InputError: if what the config names as the old side doesn't fit.
  """
  path = old_path(config, workdir)
  if not config.old.path:
    if latest_step(path) is None:
      print(f'no old encoder is named, so one is trained first, in {path}')
    claim_workdir(path, old_config(config))
    old_run = Run(old_config(config), images.training_set('old'), None)
    train(old_run, path)
  encoder = None
  if is_workdir(path):
    encoder, store = _old_store_of_run(path, config, images)
  else:
    store = _old_store(path, images.image_set)
  if store.card.dimension != config.model.dimension:
    raise InputError(
      f'{store.path}: its embeddings have {store.card.dimension} dimensions, '
      f'config.model.dimension is {config.model.dimension}; wanted: the same.'
    )
  embeddings = store.read()
  split = images.split
  statistics = class_statistics(embeddings, split.old_labels, split.old_classes)
  return OldSide(embeddings, OldModel(statistics, split.old_class), encoder)


def _old_store_of_run(
  path: pathlib.Path, config: ml_collections.ConfigDict, images: TrainingImages
) -> tuple[FrozenEncoder, EmbeddingStore]:
  theirs = read_config(path)
  if differences := differences_between(
    {'split': theirs.data.split.to_dict(), 'part': theirs.data.part},
    {'split': config.data.split.to_dict(), 'part': 'old'},
  ):
    raise InputError(
      f'{path}: the old encoder was trained on another part of the data than '
      'this config thinks:\n  '
      + '\n  '.join(differences)
      + '\nName another config.old.path, or set config.data.split to that of '
      'the old encoder.'
    )
  _require_finished(path, theirs, images)
  encoder = load_encoder(path)
  same_size = encoder.image_size == config.data.image_size
  store = extract(
    encoder,
    images.image_set,
    path / 'embeddings' / images.image_set.name,
    batch_size=config.evaluation.batch_size,
    workers=config.data.workers,
    load=images.load if same_size else None,
  )
  return encoder, store


def _require_finished(
  path: pathlib.Path, theirs: ml_collections.ConfigDict, images: TrainingImages
) -> None:
  steps = Run(theirs, images.training_set(theirs.data.part), None).steps
  if (step := latest_step(path)) != steps:
    raise InputError(
      f'{path}: the training of this encoder is at step {step} of {steps}; '
      'wanted: one that is finished. Run its own command again.'
    )


def _old_store(path: pathlib.Path, image_set: ImageSet) -> EmbeddingStore:
  store = open_store(path if is_store(path) else path / image_set.name)
  if store.card.ids_digest != image_set.ids_digest():
    raise InputError(
      f'{store.path}: these are embeddings of {store.card.count} images '
      f'({store.card.images}), not of the {len(image_set)} of '
      f'{image_set.name}, or in another order; wanted: an embedding of every '
      'training image, in the order of train_clean.csv.'
    )
  return store
