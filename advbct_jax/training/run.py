"""A run: everything that a config and its data make, ready to train."""

from collections.abc import Generator
import dataclasses
from functools import partial
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from advbct_jax import parallel
from advbct_jax.data.augmentation import AUGMENTATIONS, augment
from advbct_jax.data.images import NORMALIZATIONS
from advbct_jax.data.pipeline import Batch, LoadBatch, training_batches
from advbct_jax.embeddings.extract import FrozenEncoder
from advbct_jax.errors import InputError
from advbct_jax.methods import make_method
from advbct_jax.methods.method import OldModel, Progress
from advbct_jax.models.encoder import COMPUTE_DTYPES, make_encoder
from advbct_jax.training.checkpoints import encoder_options
from advbct_jax.training.schedules import (
  learning_rate_schedule,
  make_optimizer,
)
from advbct_jax.training.state import TrainedModel, TrainState, create_state
from advbct_jax.training.step import train_step
from advbct_jax.weights.cards import read_card
from advbct_jax.weights.files import read_tensors
from advbct_jax.weights.hub import locate
from advbct_jax.weights.loading import load_encoder_variables

# Far from the seeds that anybody gives to the new encoder.
_OLD_DRAWS = 1_000_000

_NO_OLD_ENCODER = (
  'config.model.init_weights is {!r}, but there is no old encoder with '
  'weights; wanted: a method that is tied to an old encoder, and a '
  'config.old.path that is empty or the workdir of a run.'
)


@dataclasses.dataclass(frozen=True)
class TrainingSet:
  """What a run is trained on.

  Attributes:
    load: decodes images by their row.
    rows: [n] the rows of the image set to train on.
    labels: [N] int32 the class of every row.
    classes: the number C of classes.
  """

  load: LoadBatch
  rows: np.ndarray
  labels: np.ndarray
  classes: int


@dataclasses.dataclass(frozen=True)
class OldSide:
  """What a run knows of the old encoder.

  Attributes:
    embeddings: [N, D] float32 of every row of the image set.
    model: the statistics of its classes.
    encoder: the encoder itself, where it is one of ours.
  """

  embeddings: np.ndarray
  model: OldModel
  encoder: FrozenEncoder | None = None

  def digest(self) -> str:
    """A digest of all that training is told, which tells old sides apart."""
    digest = hashlib.sha256(self.embeddings.data)
    for leaf in jax.tree.leaves(self.model):
      digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Start:
  """Weights to start from that are not read from a file.

  Attributes:
    name: where they are from, for messages.
    params: of the parts that don't start fresh, such as `encoder`.
    batch_stats: BatchNorm's statistics of the same.
    origin: a digest of the weights that they were made from. Their own would
      change with the last digits of another machine's linear algebra, where a
      run shall go on as well.
  """

  name: str
  params: Any
  batch_stats: Any
  origin: str


@dataclasses.dataclass(frozen=True)
class Run:
  """A training run, ready to go.

  Attributes:
    config: of the experiment.
    data: what it is trained on.
    old: what is known of the old encoder; None for methods that need none.
    start: the weights of an aligned start; None for any other.
  """

  config: ml_collections.ConfigDict
  data: TrainingSet
  old: OldSide | None
  start: Start | None = None

  def __post_init__(self) -> None:
    config = self.config
    for name, known in (
      ('augmentation', AUGMENTATIONS),
      ('normalization', tuple(NORMALIZATIONS)),
    ):
      if config.data[name] not in known:
        raise InputError(
          f'config.data.{name} is {config.data[name]!r}; wanted: one of '
          f'{", ".join(known)}.'
        )
    if config.evaluation.dtype not in COMPUTE_DTYPES:
      raise InputError(
        f'config.evaluation.dtype is {config.evaluation.dtype!r}; wanted: one '
        f'of {", ".join(COMPUTE_DTYPES)}.'
      )
    _require_positive(config)
    if config.batch_size % jax.device_count():
      raise InputError(
        f'config.batch_size is {config.batch_size}, which {jax.device_count()} '
        'devices cannot share; wanted: a multiple of their number.'
      )
    if not self.steps_per_epoch:
      raise InputError(
        f'config.batch_size is {config.batch_size}, more than the '
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
      optimizer.drop_epochs,
      optimizer.drop_factor,
    )

  @property
  def optimizer(self) -> optax.GradientTransformation:
    """The optimiser of all parameters."""
    optimizer = self.config.optimizer
    return make_optimizer(
      self.schedule, optimizer.momentum, optimizer.weight_decay
    )

  @property
  def inputs(self) -> dict[str, Any]:
    """What the run is made from, beside its config."""
    return {
      'steps': self.steps,
      'training_images': self.data.load.image_set.ids_digest(),
      'old_side': self.old.digest() if self.old else None,
      'start': self.start.origin if self.start else None,
    }

  @property
  def old_model(self) -> OldModel | None:
    """What the method is told of the old model."""
    return self.old.model if self.old else None

  def constants(self) -> tuple[OldModel | None, jax.Array]:
    """What the step takes beside state and batch, on all devices.

    The random key is among it rather than built into the step, so that runs of
    several seeds share what is compiled.
    """
    key = jax.random.key(self.config.seed)
    return parallel.replicate((self.old_model, key))

  def model(self, axis_name: str | None) -> TrainedModel:
    """What is trained, on a mapped axis or outside of any."""
    config = self.config
    return TrainedModel(
      encoder=make_encoder(
        **encoder_options(config.model), axis_name=axis_name
      ),
      method=make_method(
        config.method,
        self.data.classes,
        config.get(config.method, {}),
        axis_name,
      ),
      classes=self.data.classes,
      compatible_dimension=compatible_dimension(config.model),
      axis_name=axis_name,
    )

  def fresh_state(self) -> TrainState:
    """Draws a state by the config's seed."""
    size = self.config.data.image_size
    dimension = compatible_dimension(self.config.model) if self.old else 0
    example = (
      np.zeros((2, size, size, 3), np.float32),
      np.zeros(2, np.int32),
      np.zeros((2, dimension), np.float32),
      self.old_model,
      Progress(jnp.zeros((), jnp.int32), self.steps, self.steps_per_epoch),
    )
    return create_state(
      self.model(axis_name=None), self.optimizer, example, self._draw_seed
    )

  @property
  def _draw_seed(self) -> int:
    """The seed of fresh weights.

    One classifier to start from, with the same classes in the same order, ties
    two encoders without any loss. That would be the case in extended-data.
    """
    data = self.config.data
    same_classes = data.split.kind == 'extended_data'
    return self.config.seed + _OLD_DRAWS * (same_classes and data.part == 'old')

  def check(self) -> None:
    """Builds everything but the old encoder, so that errors come early.

    Raises:
      InputError: if a name or the weights that the config gives cannot be used.
    """
    state = jax.eval_shape(self.fresh_state)
    source = self.config.model.init_weights
    if source in ('old', 'aligned') and self.old is None:
      raise InputError(_NO_OLD_ENCODER.format(source))
    if source and source not in ('old', 'aligned'):
      tensors = read_tensors(source)
      self._require_same_images(source)
      load_encoder_variables(tensors, _encoder_variables(state), source)

  def _require_same_images(self, source: str) -> None:
    """Refuses weights whose card says that they see or pool otherwise."""
    card = read_card(locate(source))
    if card is None:
      return
    normalization = NORMALIZATIONS[self.config.data.normalization]
    encoder = make_encoder(**encoder_options(self.config.model))
    here = {
      'pooling': encoder.backbone.pooling,
      'mean': normalization.mean,
      'standard_deviation': normalization.deviation,
    }
    there = {name: getattr(card, name) for name in here}
    if there != here:
      raise InputError(
        f'{source}: by its card these weights go with {there}, but the config '
        f'says {here}. Set config.model.pooling and config.data.normalization '
        'to those of the weights.'
      )

  def initial_state(self) -> TrainState:
    """A fresh state, with the weights in it that the config starts from."""
    state = self.fresh_state()
    source = self.config.model.init_weights
    if not source:
      return state
    if self.start:
      print(f'starting from {self.start.name}')
      return dataclasses.replace(
        state,
        params={**state.params, **self.start.params},
        batch_stats={**state.batch_stats, **self.start.batch_stats},
      )
    variables = _encoder_variables(state)
    if source == 'old':
      variables = self._old_variables(variables)
      print("the encoder starts from the old encoder's weights")
    else:
      variables, fresh = load_encoder_variables(
        read_tensors(source), variables, source
      )
      print(
        f'the encoder starts from {source}; '
        + (f'freshly drawn: {", ".join(fresh)}' if fresh else 'all of it')
      )
    parts: dict[str, Any] = {
      collection: {**getattr(state, collection), 'encoder': tree}
      for collection, tree in variables.items()
    }
    return dataclasses.replace(state, **parts)

  def _old_variables(self, variables: Any) -> Any:
    if self.old is None or self.old.encoder is None:
      raise InputError(_NO_OLD_ENCODER.format('old'))
    given = self.old.encoder.variables
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (variables, given)]
    if shapes[0] != shapes[1]:
      raise InputError(
        "config.model.init_weights is 'old', but the old encoder is a "
        f'{self.old.encoder.name} of other shapes; wanted: the same '
        'config.model as the old one, or another start.'
      )
    return given

  def batches(self, start: int) -> Generator[Batch, None, None]:
    """The training batches, from the one of a given step."""
    return training_batches(
      self.data.load,
      self.data.rows,
      batch_size=self.config.batch_size,
      seed=self.config.seed,
      start=start,
      workers=self.config.data.workers,
    )

  def complete_batch(self, batch: dict[str, np.ndarray]) -> Any:
    """Adds labels and old embeddings, and cuts the batch for the devices."""
    rows = batch['row']
    old = (
      self.old.embeddings[rows]
      if self.old
      else np.zeros((len(rows), 0), np.float32)
    )
    return parallel.shard(
      {**batch, 'label': self.data.labels[rows], 'old_embedding': old}
    )

  def compiled_step(self) -> Any:
    """The train step, mapped over the devices."""
    return parallel.map_step(
      partial(
        train_step,
        model=self.model(parallel.AXIS),
        optimizer=self.optimizer,
        prepare_images=partial(
          augment,
          kind=self.config.data.augmentation,
          normalization=self.config.data.normalization,
        ),
        steps=self.steps,
        steps_per_epoch=self.steps_per_epoch,
      )
    )


def compatible_dimension(model: ml_collections.ConfigDict) -> int:
  """How many of the first components of an embedding the old one matches.

  Args:
    model: the `model` of a config.
  """
  return model.compatible_dimension or model.dimension


def _require_positive(config: ml_collections.ConfigDict) -> None:
  for name, value in {
    'batch_size': config.batch_size,
    'epochs': config.epochs,
    'checkpoint.every_steps': config.checkpoint.every_steps,
    'checkpoint.keep': config.checkpoint.keep,
    'data.image_size': config.data.image_size,
    'log.every_steps': config.log.every_steps,
    'model.dimension': config.model.dimension,
    'model.width': config.model.width,
  }.items():
    if value <= 0:
      raise InputError(f'config.{name} is {value}; wanted: more than 0.')
  model = config.model
  if not 0 <= model.compatible_dimension <= model.dimension:
    raise InputError(
      f'config.model.compatible_dimension is {model.compatible_dimension}; '
      f'wanted: at most config.model.dimension, {model.dimension}, or 0 for '
      'all of it.'
    )


def _encoder_variables(state: TrainState) -> dict[str, Any]:
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  return {
    collection: tree['encoder']
    for collection, tree in variables.items()
    if 'encoder' in tree  # a ViT without a head has no statistics
  }
