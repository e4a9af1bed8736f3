"""The old side of an upgrade: opened, or trained and extracted first."""

import pathlib

import ml_collections
import numpy as np

from advbct_jax.data.splits import Split, split_by_old_labels
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.embeddings.extract import FrozenEncoder
from advbct_jax.embeddings.sources import (
  find_rows,
  from_stores,
  open_named_store,
)
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.methods import METHODS, find_method, method_options
from advbct_jax.methods.method import OldModel, OldSide
from advbct_jax.models.encoder import make_encoder
from advbct_jax.processes import say
from advbct_jax.training.checkpoints import (
  encoder_options,
  is_workdir,
  latest_step,
  load_encoder,
  load_trained,
  read_config,
)
from advbct_jax.training.loop import train
from advbct_jax.training.run import Run, compatible_dimension
from advbct_jax.training.run_stores import open_run
from advbct_jax.training.start import OLD
from advbct_jax.training.training_images import TrainingImages
from advbct_jax.training.workdir import (
  claim_workdir,
  differences_between,
  read_inputs,
  require_finished,
)


def old_config(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """The config that trains the old encoder of an upgrade.

  Raises:
    InputError: if `config.old.method` is none that trains without an old
      encoder of its own.
  """
  if find_method(config.old.method).needs_old_model:
    untied = [
      name for name, method in METHODS.items() if not method.needs_old_model
    ]
    raise InputError(
      f'config.old.method is {config.old.method!r}, which would need an old '
      f'encoder itself; wanted: one of {", ".join(untied)}, or the workdir of '
      'a run in config.old.path.'
    )
  old = config.copy_and_resolve_references()
  old.method = config.old.method
  old.aligned.path = ''
  old.model = config.old.model
  old.epochs = config.old.epochs
  old.optimizer = config.old.optimizer
  old.data.part = 'old'
  # What only the new encoder is told may change while the old one stays.
  own = {old.method} if method_options(old.method) else set()
  with old.unlocked():
    del old.old, old.stores
    for method in (METHODS.keys() & old.keys()) - own:
      del old[method]
  return old


def old_path(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path:
  """Where the old side of an upgrade lies."""
  return pathlib.Path(config.old.path or workdir / 'old')


def check_old_side(
  config: ml_collections.ConfigDict, images: TrainingImages
) -> None:
  """Refuses an old side that cannot fit, before anything is trained.

  Args:
    config: of the upgrade.
    images: of the upgrade.

  Raises:
    InputError: if there is nothing at `config.old.path`, or the old encoder has
      another width than the compatible part of the new one, or another shape
      where the new one shall start from it, or was trained by a method that
      the new one's cannot be tied to.
  """
  path = pathlib.Path(config.old.path)
  if config.old.weights and (not config.old.path or is_workdir(path)):
    raise InputError(
      f'config.old.weights is {config.old.weights!r}, but the old encoder '
      f'({config.old.path or "trained first"}) has weights itself; wanted: '
      'nothing there, or vectors in config.old.path.'
    )
  if not config.old.path:
    check_old_encoder(config, old_config(config))
  elif is_workdir(path):
    check_old_encoder(config, read_config(path))
  else:
    require_width(config, _check_store(path, config, images))


def check_old_encoder(
  config: ml_collections.ConfigDict, theirs: ml_collections.ConfigDict
) -> None:
  """Refuses an old encoder that cannot fit, by its config.

  Args:
    config: of the upgrade.
    theirs: that trains or has trained the old encoder.

  Raises:
    InputError: as `check_old_side` does.
  """
  _require_method(config, theirs)
  require_width(config, theirs.model.dimension)
  if config.model.init_weights == OLD:
    _require_same_shape(config, theirs)


def _require_same_shape(
  config: ml_collections.ConfigDict, theirs: ml_collections.ConfigDict
) -> None:
  """Refuses to start from an encoder that differs from the new one."""
  there, here = describe_start(theirs), describe_start(config)
  differing = [name for name in here if there[name] != here[name]]
  if differing:
    raise InputError(
      "config.model.init_weights is 'old', but the old encoder has another "
      + ', '.join(f'{name} ({there[name]})' for name in differing)
      + '; wanted: the same as the old one in config.model and config.data, '
      'or another start.'
    )


def _require_method(
  config: ml_collections.ConfigDict, theirs: ml_collections.ConfigDict
) -> None:
  """Refuses an old encoder whose training is known not to fit."""
  wanted = find_method(config.method).old_methods
  # Nobody knows what has trained one that was converted.
  there = theirs.get('method')
  if wanted and there is not None and there not in wanted:
    raise InputError(
      f'config.method is {config.method!r}, but the old encoder '
      f'({config.old.path or "config.old.method"}) is one of {there!r}; '
      f'wanted: one of {", ".join(wanted)}, such as '
      f'--config.old.method={wanted[0]} with an empty config.old.path.'
    )


def require_width(config: ml_collections.ConfigDict, dimension: int) -> None:
  """Refuses an old encoder of another width than the compatible part.

  Args:
    config: of the upgrade.
    dimension: the width of the old embeddings.

  Raises:
    InputError: saying both widths.
  """
  if dimension != compatible_dimension(config.model):
    raise InputError(
      f'the old embeddings ({config.old.path or "config.old.model.dimension"}) '
      f'have {dimension} dimensions, config.model.dimension is '
      f'{config.model.dimension} and compatible_dimension '
      f'{config.model.compatible_dimension}; wanted: the same width, or a '
      'wider new encoder with the old width as its compatible_dimension.'
    )


def _check_store(
  path: pathlib.Path, config: ml_collections.ConfigDict, images: TrainingImages
) -> int:
  """Refuses an unfit store of old embeddings; returns their width."""
  if config.model.init_weights == OLD:
    _check_weights(path, config)
  from_stores(path, path)  # refuses what is none, and opens nothing yet
  store = open_named_store(path, images.image_set.name)
  rows = find_rows(store, images.image_set)
  if labels := store.labels():
    known = split_by_old_labels(
      images.split, [labels[row] for row in rows], store.path
    )
    say(
      f'{store.path}: by its labels the old model knows {len(known.old_rows)} '
      f'images of {known.old_classes} classes; config.data.split does not count'
    )
  else:
    say(
      f'{store.path}: it has no labels, so config.data.split says what the old '
      'model knew'
    )
  return store.card.dimension


def _check_weights(
  path: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Refuses what `config.old.weights` names, beside a store."""
  if not config.old.weights:
    raise InputError(
      f"config.model.init_weights is 'old', but of the old encoder ({path}) "
      'only vectors are known; wanted: another start, a config.old.path with '
      'its weights, or the workdir of a run that has them in '
      'config.old.weights.'
    )
  weights = pathlib.Path(config.old.weights)
  _require_same_shape(config, read_config(weights))
  require_finished(weights)


def describe_start(config: ml_collections.ConfigDict) -> dict[str, object]:
  """What encoders must share for one to start from another's weights.

  Args:
    config: of a run.
  """
  options = encoder_options(config.model)
  backbone = make_encoder(**options).backbone
  del options['dtype']
  return options | {
    'pooling': backbone.pooling,
    'normalization': config.data.normalization,
    'resampling': config.data.resampling,
  }


def prepare_old_side(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  images: TrainingImages,
) -> tuple[OldSide, FrozenEncoder | None]:
  """Opens the old side of an upgrade; trains and extracts what is missing.

  Args:
    config: of the upgrade.
    workdir: of the upgrade; the old encoder goes to its folder `old`, unless
      the config names one.
    images: of the upgrade.

  Returns:
    What is known of the old encoder, and the encoder itself where it is one of
    ours, or the one that `config.old.weights` names beside vectors.

  Raises:
    InputError: if what the config names as the old side doesn't fit.
  """
  path = old_path(config, workdir)
  if not config.old.path:
    if latest_step(path) is None:
      say(f'no old encoder is named, so one is trained first, in {path}')
    claim_workdir(path, old_config(config))
    old_run = Run(old_config(config), images.training_set('old'), None)
    train(old_run, path)
  encoder, classifier, split = None, None, images.split
  without_classifier = find_method(config.method).without_classifier
  if is_workdir(path):
    encoder, store = _old_store_of_run(path, config, images)
    if without_classifier:
      classifier = _find_classifier(path, split)
  else:
    source = from_stores(path, workdir / 'embeddings' / 'old')
    store = source(images.image_set)
    if (labels := store.labels()) is not None:
      split = split_by_old_labels(split, labels, store.path)
    if config.old.weights:
      encoder = load_encoder(pathlib.Path(config.old.weights))
  embeddings = store.read()
  statistics = class_statistics(embeddings, split.old_labels, split.old_classes)
  if classifier is None and without_classifier:
    say(
      f'{path}: no classifier of these {split.old_classes} old classes is '
      f'known; {config.method} {without_classifier}'
    )
  side = OldSide(
    embeddings,
    split.labels,
    split.old_labels,
    OldModel(statistics, split.old_class, classifier),
    {
      name: _read_other(name, config, workdir, images)
      for name in find_method(config.method).stores
    },
  )
  return side, encoder


def check_other_stores(config: ml_collections.ConfigDict) -> None:
  """Refuses a method without the stores that it reads.

  Args:
    config: of the upgrade.

  Raises:
    InputError: naming the field that is empty.
  """
  for name in find_method(config.method).stores:
    if not config.stores[name]:
      raise InputError(
        f'config.stores.{name} is empty, but {config.method} reads what such '
        'an encoder says of the training images; wanted: the workdir of a '
        'run, a store, or a folder of stores.'
      )


def _read_other(
  name: str,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  images: TrainingImages,
) -> np.ndarray:
  """[N, D] what a further encoder says of the training images."""
  path = pathlib.Path(config.stores[name])
  if is_workdir(path):
    require_finished(path)
    _, store = embed_training_images(path, config, images)
    return store.read_rows(find_rows(store, images.image_set))
  return from_stores(path, workdir / 'embeddings' / name)(
    images.image_set
  ).read()


def _find_classifier(path: pathlib.Path, split: Split) -> np.ndarray | None:
  """[C_old, D] the classifier of a run; None if its classes may be others."""
  if 'converted_from' in read_config(path):
    return None  # nobody knows which of its classes is which
  params = load_trained(path).params
  kernel = params.get('classifier', {}).get('kernel', np.empty((0, 0)))
  return kernel.T if kernel.shape[1] == split.old_classes else None


def _old_store_of_run(
  path: pathlib.Path, config: ml_collections.ConfigDict, images: TrainingImages
) -> tuple[FrozenEncoder, EmbeddingStore]:
  theirs = read_config(path)
  if 'converted_from' in theirs:
    say(
      f'{path}: converted from {theirs.converted_from}; what it was trained on '
      'is not known, so config.data.split says what it knows'
    )
    return embed_training_images(path, config, images)
  if differences := differences_between(
    _known_part(theirs.data, theirs.data.part), _known_part(config.data, 'old')
  ):
    raise InputError(
      f'{path}: the old encoder was trained on another part of the data than '
      'this config thinks:\n  '
      + '\n  '.join(differences)
      + '\nName another config.old.path, or set config.data.split to that of '
      'the old encoder.'
    )
  require_finished(path)
  if read_inputs(path)['training_images'] != images.image_set.ids_digest():
    raise InputError(
      f'{path}: the old encoder was trained on part of other images than '
      f'{images.image_set.name} of {config.data.root}; its classes are not '
      'known there. Wanted: the same train_clean.csv for both, and the same '
      'images that cannot be read.'
    )
  return embed_training_images(path, config, images)


def _known_part(
  data: ml_collections.ConfigDict, part: str
) -> dict[str, object]:
  """What tells apart two parts of the same images, by a config's `data`."""
  split = data.split
  return {
    'split.kind': split.kind,
    'split.seed': split.seed,
    'share of the training set': (
      split.old_fraction if part == 'old' else split.new_fraction
    ),
  }


def embed_training_images(
  path: pathlib.Path, config: ml_collections.ConfigDict, images: TrainingImages
) -> tuple[FrozenEncoder, EmbeddingStore]:
  """Fills or opens a run's store of the training images of an upgrade.

  Args:
    path: the workdir of a run.
    config: of the upgrade.
    images: of the upgrade.

  Returns:
    The encoder of the run, and its store.
  """
  encoder, source = open_run(
    path,
    batch_size=config.evaluation.batch_size,
    workers=config.data.workers,
    dtype=config.evaluation.dtype,
    load=images.load,
  )
  return encoder, source(images.image_set)
