"""An upgrade from its config: data, old side, new encoder."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from advbct_jax.data import gldv2
from advbct_jax.data.images import ImageSet, check_images
from advbct_jax.data.landmarks import draw_landmarks
from advbct_jax.data.pipeline import LoadBatch, make_loader
from advbct_jax.data.splits import Split, split_training_set
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.embeddings.extract import FrozenEncoder, extract
from advbct_jax.embeddings.store import EmbeddingStore, is_store, open_store
from advbct_jax.errors import InputError
from advbct_jax.methods import needs_old_model
from advbct_jax.methods.method import OldModel
from advbct_jax.training.checkpoints import (
  is_workdir,
  latest_step,
  load_encoder,
  read_config,
)
from advbct_jax.training.loop import train
from advbct_jax.training.run import OldSide, Run, TrainingSet
from advbct_jax.training.summary import summarize

# Fields that may differ between two starts of one run: they change where
# things lie and what is said, not what comes out.
_FREE_FIELDS = (
  'checkpoint',
  'data.memory_mib',
  'data.root',
  'data.workers',
  'evaluation',
  'log',
  'old.path',
)


@dataclasses.dataclass(frozen=True)
class Images:
  """The training images of an upgrade, shared by its old and new run."""

  image_set: ImageSet
  split: Split
  load: LoadBatch

  def training_set(self, part: str) -> TrainingSet:
    """What a model of the old (`old`) or of all data (`all`) is trained on."""
    split = self.split
    if part == 'old':
      return TrainingSet(
        self.load, split.old_rows, split.old_labels, split.old_classes
      )
    if part == 'all':
      rows = np.arange(len(split.labels))
      return TrainingSet(self.load, rows, split.labels, split.classes)
    raise InputError(f'config.data.part is {part!r}; wanted: all or old.')


def train_upgrade(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
  """Trains the encoder of a config; what it needs and lacks is made first.

  Where the method wants an old encoder and none is named, that is trained
  first, in WORKDIR/old; then the old encoder embeds the training images.
  Whatever an earlier call has made is kept and used.

  Args:
    config: of the experiment.
    workdir: where everything goes.

  Raises:
    InputError: if something that the config names cannot be used.
  """
  _claim(workdir, config)
  images = _open_images(config, check=latest_step(workdir) is None)
  old = None
  if needs_old_model(config.method):
    old = _old_side(config, workdir, images)
  _train(config, workdir, images, old)


def describe_upgrade(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> str:
  """Builds everything that a training needs, and says what it would do.

  Args:
    config: of the experiment.
    workdir: where everything would go.

  Returns:
    A text: data found, what would be made first, parameters, steps.

  Raises:
    InputError: as the training itself would.
  """
  require_same_run(workdir, config)
  images = _open_images(config, check=True)
  text = []
  old = None
  if needs_old_model(config.method):
    if config.old.path:
      text.append(f'old encoder: {config.old.path}')
    else:
      text.append(
        f'old encoder: none is named, so {workdir / "old"} is trained first\n'
      )
      old_run = Run(old_config(config), images.training_set('old'), None)
      text.append(summarize(old_run, images.image_set.name))
      text.append('\nthen the new encoder\n')
    old = _placeholder_old_side(config, images.split)
  run = Run(config, images.training_set(config.data.part), old)
  return '\n'.join([*text, summarize(run, images.image_set.name)])


def old_config(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """The config that trains the old encoder of an upgrade."""
  old = config.copy_and_resolve_references()
  old.method = 'independent'
  old.model = config.old.model
  old.epochs = config.old.epochs
  old.optimizer.drop_epochs = config.old.drop_epochs
  old.data.part = 'old'
  return old


def old_path(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path:
  """Where the old side of an upgrade lies."""
  return pathlib.Path(config.old.path or workdir / 'old')


def require_same_run(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Refuses to go on with a run under another config.

  Raises:
    InputError: if the workdir holds a run whose config differs in a field that
      matters; it names the fields.
  """
  if not is_workdir(workdir) or latest_step(workdir) is None:
    return
  # As JSON knows it: tuples are lists there.
  wanted = json.loads(json.dumps(config.to_dict()))
  differences = _differences(read_config(workdir).to_dict(), wanted)
  if differences:
    raise InputError(
      f'{workdir}: the run in this workdir has another config:\n  '
      + '\n  '.join(differences)
      + '\nName another --workdir, or go back to the config of this one.'
    )


def _open_images(config: ml_collections.ConfigDict, check: bool) -> Images:
  if not config.data.root:
    raise InputError(
      'config.data.root is empty; wanted: the folder with train_clean.csv. '
      'Say --config.data.root=FOLDER.'
    )
  data = config.data
  if data.drawing:
    draw_landmarks(data.root, **data.drawing)
  image_set = gldv2.load_train(pathlib.Path(data.root), data.name)
  assert image_set.labels is not None
  split = split_training_set(image_set.labels, **data.split)
  print(
    f'{image_set.name}: {len(image_set)} images of {split.classes} classes; '
    f'the old model knows {len(split.old_rows)} of {split.old_classes} '
    f'({data.split.kind})'
  )
  if check:
    check_images(image_set)
  return Images(
    image_set, split, make_loader(image_set, data.image_size, data.memory_mib)
  )


def _train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  images: Images,
  old: OldSide | None,
) -> None:
  run = Run(config, images.training_set(config.data.part), old)
  train(run, workdir)


def _old_side(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, images: Images
) -> OldSide:
  """Opens the old side of an upgrade; trains and extracts what is missing."""
  path = old_path(config, workdir)
  if not config.old.path:
    if latest_step(path) is None:
      print(f'no old encoder is named, so one is trained first, in {path}')
    _claim(path, old_config(config))
    _train(old_config(config), path, images, None)
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
  path: pathlib.Path, config: ml_collections.ConfigDict, images: Images
) -> tuple[FrozenEncoder, EmbeddingStore]:
  theirs = read_config(path)
  _require_finished(path, theirs, images)
  if differences := _differences(
    {'split': theirs.data.split.to_dict(), 'part': theirs.data.part},
    {'split': config.data.split.to_dict(), 'part': 'old'},
  ):
    raise InputError(
      f'{path}: the old encoder was trained on another part of the data than '
      'this config thinks:\n  ' + '\n  '.join(differences)
    )
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
  path: pathlib.Path, theirs: ml_collections.ConfigDict, images: Images
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


def _placeholder_old_side(
  config: ml_collections.ConfigDict, split: Split
) -> OldSide:
  """An old side of the right shapes, without an old encoder."""
  dimension = config.model.dimension
  statistics = class_statistics(
    np.zeros((0, dimension), np.float32),
    np.zeros(0, np.int32),
    split.old_classes,
  )
  return OldSide(
    np.zeros((0, dimension), np.float32),
    OldModel(statistics, split.old_class),
    None,
  )


def _claim(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
  """Writes the config into a new workdir, or checks that it is the same."""
  require_same_run(workdir, config)
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    unfinished = workdir / 'config.json.unfinished'
    unfinished.write_text(json.dumps(config.to_dict(), indent=2) + '\n')
    os.replace(unfinished, workdir / 'config.json')


def _differences(there: Any, here: Any, path: str = '') -> list[str]:
  if path in _FREE_FIELDS:
    return []
  if isinstance(there, dict) and isinstance(here, dict):
    return [
      difference
      for name in sorted(there.keys() | here.keys())
      for difference in _differences(
        there.get(name), here.get(name), f'{path}.{name}'.lstrip('.')
      )
    ]
  return [f'{path}: {there!r} there, {here!r} here'] if there != here else []
