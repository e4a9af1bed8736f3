"""A run: what a config and its data make, ready to train."""

from collections.abc import Generator
import dataclasses
from functools import cached_property, partial
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from advbct_jax import parallel, processes
from advbct_jax.class_shards import (
  ClassLayout,
  ClassShards,
  WholeClasses,
)
from advbct_jax.data.augmentation import augment
from advbct_jax.data.pipeline import Batch as LoadedBatch
from advbct_jax.data.pipeline import Loader, training_batches
from advbct_jax.embeddings.extract import FrozenEncoder
from advbct_jax.embeddings.features import FeatureRows, StoredFeatures
from advbct_jax.errors import InputError
from advbct_jax.methods import find_method, make_method
from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  OldSide,
  Progress,
)
from advbct_jax.models.encoder import make_encoder
from advbct_jax.training.checkpoints import encoder_options
from advbct_jax.training.config_checks import check_config
from advbct_jax.training.schedules import (
  learning_rate_schedule,
  make_optimizer,
)
from advbct_jax.training.start import Start, check_start, file_start
from advbct_jax.training.state import TrainState, create_state, trained_model
from advbct_jax.training.step import HostBatch, PrepareImages, train_step

# Far from the seeds that anybody gives to the new encoder.
_OLD_DRAWS = 1_000_000


@dataclasses.dataclass(frozen=True)
class TrainingSet:
  """What a run is trained on.

  Attributes:
    load: gives images, or stored features, by their row.
    rows: [n] the rows of the image set to train on.
    labels: [N] int32 the class of every row, −1 for rows to leave out.
    classes: the number C of classes.
    places: [C] of each class its place among all labels of the data set; None
      for its number.
    left_out: a digest of the images that a check leaves out; None for none.
  """

  load: Loader
  rows: np.ndarray
  labels: np.ndarray
  classes: int
  places: np.ndarray | None = None
  left_out: str | None = None


@dataclasses.dataclass(frozen=True)
class Run:
  """A training run, ready to go.

  Attributes:
    config: of the experiment.
    data: what it is trained on.
    old: what is known of the old encoder; None for methods that need none.
    start: weights to start from, where they are no file's and not fresh.
  """

  config: ml_collections.ConfigDict
  data: TrainingSet
  old: OldSide | None
  start: Start | None = None

  def __post_init__(self) -> None:
    check_config(self.config)
    if not self.steps_per_epoch:
      raise InputError(
        f'config.batch_size is {self.config.batch_size}, more than the '
        f'{len(self.data.rows)} images to train on; wanted: at most that many.'
      )

  @property
  def steps_per_epoch(self) -> int:
    """Whole batches in an epoch."""
    return len(self.data.rows) // self.config.batch_size

  @property
  def steps(self) -> int:
    """Steps of the whole training."""
    return self.config.epochs * self.steps_per_epoch

  @property
  def schedule(self) -> optax.Schedule:
    """The learning rate as a function of the step."""
    optimizer = self.config.optimizer
    return learning_rate_schedule(
      optimizer.learning_rate,
      self.steps_per_epoch,
      epochs=self.config.epochs,
      schedule=optimizer.schedule,
      drop_epochs=optimizer.drop_epochs,
      drop_factor=optimizer.drop_factor,
      warmup_epochs=optimizer.warmup_epochs,
    )

  @property
  def optimizer(self) -> optax.GradientTransformation:
    """The optimiser of all parameters."""
    optimizer = self.config.optimizer
    return make_optimizer(
      self.schedule,
      optimizer.momentum,
      optimizer.weight_decay,
      optimizer.name,
    )

  @property
  def inputs(self) -> dict[str, Any]:
    """What the run is made from, beside its config."""
    inputs = {
      'steps': self.steps,
      'training_images': self.data.load.image_set.ids_digest(),
      'old_side': _digest(self.old) if self.old else None,
      'start': self.start.origin if self.start else None,
    }
    if self.data.left_out:
      inputs['left_out'] = self.data.left_out
    if isinstance(self.data.load, FeatureRows):
      inputs['features'] = self.data.load.digest()
    return inputs

  @property
  def features(self) -> StoredFeatures | None:
    """What a head is trained on; None for an encoder of images."""
    load = self.data.load
    return load.features if isinstance(load, FeatureRows) else None

  @property
  def class_layout(self) -> ClassLayout:
    """Whether each device trains all classes or a shard of them."""
    if not self.config.shard_classes:
      return WholeClasses(self.data.classes)
    return ClassShards(
      self.data.classes,
      parallel.device_count(),
      find_method(self.config.method).class_parameters,
    )

  def method(self, axis_name: str | None) -> Method:
    """What is trained, on a mapped axis or outside of any."""
    config = self.config
    return make_method(
      config.method,
      make_encoder(**encoder_options(config.model), axis_name=axis_name),
      self.data.classes,
      config.get(config.method, {}),
      class_layout=self.class_layout if axis_name else None,
      compatible_dimension=compatible_dimension(config.model),
      axis_name=axis_name,
      places=self.data.places,
    )

  @cached_property
  def old_model(self) -> OldModel | None:
    """What the steps know of the old model."""
    if self.old is None:
      return None
    prepared = self.method(axis_name=None).prepare(self.old)
    return dataclasses.replace(self.old.model, prepared=prepared)

  def constants(self) -> tuple[OldModel | None, jax.Array]:
    """What the step takes beside state and batch, on all devices.

    That is what is known of the old model, and the data of a random key.

    The random key is among it rather than built into the step, so that runs of
    several seeds share what is compiled.
    """
    key = jax.random.key(self.config.seed)
    return parallel.agree((self.old_model, jax.random.key_data(key)))

  def fresh_state(self, layout: ClassLayout | None = None) -> TrainState:
    """Draws a state by the config's seed.

    Args:
      layout: where its classes shall lie; None for one device.
    """
    images = jnp.zeros((2, *self.data.load.shape))
    rows = jnp.zeros(2, jnp.int32)
    example = Batch(
      images,
      rows,
      rows,
      **self._old_parts(np.zeros(2, np.int32)),
      key=jax.random.key(0),
    )
    progress = Progress(
      jnp.zeros((), jnp.int32), self.steps, self.steps_per_epoch
    )
    return create_state(
      trained_model(self.method(axis_name=None)),
      self.optimizer,
      (example, self.old_model, progress),
      self._draw_seed,
      layout,
    )

  @property
  def _draw_seed(self) -> int:
    """The seed of fresh weights.

    One classifier to start from, with the same classes in the same order, ties
    two encoders without any loss. That would be the case in extended-data.
    """
    data = self.config.data
    same_classes = has_same_classes(data.split)
    return self.config.seed + _OLD_DRAWS * (same_classes and data.part == 'old')

  def check(self) -> None:
    """Builds everything but the old encoder, so that errors come early.

    Raises:
      InputError: if a name or the weights that the config gives cannot be used.
    """
    state = jax.eval_shape(self.fresh_state)
    check_start(self.config, state, self.old is not None)

  def initial_state(self) -> TrainState:
    """A fresh state, with the weights in it that the config starts from."""
    layout = self.class_layout
    state = self.fresh_state(layout)
    source = self.config.model.init_weights
    if not source:
      return state
    start = self.start or file_start(source, state)
    processes.say(f'the encoder starts from {start.name}')
    return layout.place(start.put_into(layout.whole(state)))

  def frozen_encoder(self, state: TrainState) -> FrozenEncoder:
    """The encoder of a state, computing as it will when it is searched.

    It shares the state's arrays, which the next step gives up.
    """
    config = self.config
    options = encoder_options(config.model)
    options['dtype'] = config.evaluation.dtype
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    return FrozenEncoder(
      name=config.model.architecture,
      module=make_encoder(**options),
      variables={
        collection: tree['encoder']
        for collection, tree in variables.items()
        if 'encoder' in tree
      },
      image_size=0 if self.features else self.data.load.shape[0],
      normalization=config.data.normalization,
      compatible_dimension=config.model.compatible_dimension,
      resampling=config.data.resampling,
      features=self.features,
    )

  def batches(self, start: int) -> Generator[LoadedBatch, None, None]:
    """The training batches, from the one of a given step."""
    return training_batches(
      self.data.load,
      self.data.rows,
      batch_size=self.config.batch_size,
      seed=self.config.seed,
      start=start,
      workers=self.config.data.workers,
    )

  def complete_batch(self, batch: LoadedBatch) -> HostBatch:
    """Adds labels and old embeddings, and puts a part on each device."""
    rows = batch['row']
    old = self._old_parts(rows)
    return parallel.shard(
      {
        **batch,
        'label': self.data.labels[rows],
        'old_embedding': old['old_embeddings'],
        'other_embeddings': old['other_embeddings'],
      }
    )

  def _old_parts(self, rows: np.ndarray) -> dict[str, Any]:
    """What the old side says of some rows."""
    if self.old is None:
      nothing = np.zeros((len(rows), 0), np.float32)
      return {'old_embeddings': nothing, 'other_embeddings': {}}
    return {
      'old_embeddings': self.old.embeddings[rows],
      'other_embeddings': {
        name: store[rows] for name, store in self.old.others.items()
      },
    }

  def compiled_step(self) -> Any:
    """The train step, mapped over the devices."""
    prepare_images: PrepareImages = partial(
      augment,
      kind=self.config.data.augmentation,
      normalization=self.config.data.normalization,
    )
    take_step = partial(
      train_step,
      method=self.method(parallel.AXIS),
      optimizer=self.optimizer,
      schedule=self.schedule,
      prepare_images=_take_as_stored if self.features else prepare_images,
      steps=self.steps,
      steps_per_epoch=self.steps_per_epoch,
    )

    def take_step_by_key_data(
      state: TrainState,
      batch: HostBatch,
      old: OldModel | None,
      key_data: jax.Array,
    ) -> Any:
      return take_step(state, batch, old, jax.random.wrap_key_data(key_data))

    return self.class_layout.map_step(take_step_by_key_data)


def _take_as_stored(features: jax.Array, keys: jax.Array) -> jax.Array:
  """Features need no more preparation; `keys` are for augmenting images."""
  del keys
  return features


def has_same_classes(split: ml_collections.ConfigDict) -> bool:
  """Whether the old and the new encoder are trained on the same classes.

  Args:
    split: the `data.split` of a config.
  """
  return (
    split.kind == 'extended_data' or split.old_fraction == split.new_fraction
  )


def compatible_dimension(model: ml_collections.ConfigDict) -> int:
  """How many of the first components of an embedding the old one matches.

  Args:
    model: the `model` of a config.
  """
  return model.compatible_dimension or model.dimension


def _digest(old: OldSide) -> str:
  """A digest of all that training is told, which tells old sides apart."""
  digest = hashlib.sha256(old.embeddings.data)
  for leaf in jax.tree.leaves((old.model, dict(old.others))):
    digest.update(np.ascontiguousarray(leaf).data)
  return digest.hexdigest()
