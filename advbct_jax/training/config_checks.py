"""What a config may say, as far as its fields alone can tell."""

from typing import Any

import jax
import ml_collections

from advbct_jax.data.augmentation import AUGMENTATIONS
from advbct_jax.data.decoding import RESAMPLINGS
from advbct_jax.data.images import NORMALIZATIONS
from advbct_jax.data.problem_tables import PROBLEMS
from advbct_jax.errors import InputError
from advbct_jax.methods import METHODS, find_method
from advbct_jax.models.backbones import takes_features
from advbct_jax.models.encoder import COMPUTE_DTYPES
from advbct_jax.training.checked_images import SKIP, STOP
from advbct_jax.training.schedules import OPTIMIZERS, SCHEDULES


def check_config(config: ml_collections.ConfigDict) -> None:
  """Refuses values that mean nothing, before anything is made of them.

  Args:
    config: of a run.

  Raises:
    InputError: naming the field, its value and what is wanted.
  """
  _require_known(
    config,
    {
      'data.augmentation': AUGMENTATIONS,
      'data.normalization': NORMALIZATIONS,
      'data.on_problem': (STOP, SKIP),
      'data.resampling': RESAMPLINGS,
      'evaluation.dtype': COMPUTE_DTYPES,
      'optimizer.name': OPTIMIZERS,
      'optimizer.schedule': SCHEDULES,
    },
  )
  _require_positive(
    config,
    'batch_size',
    'epochs',
    'checkpoint.every_steps',
    'checkpoint.keep',
    'data.image_size',
    'data.max_pixels',
    'evaluation.part_queries',
    'log.every_steps',
    'model.dimension',
    'model.width',
  )
  if config.evaluation.every_epochs < 0:
    raise InputError(
      f'config.evaluation.every_epochs is {config.evaluation.every_epochs}; '
      'wanted: after how many epochs the encoder is judged, or 0 for never.'
    )
  for problem in config.data.problems:
    if problem not in PROBLEMS:
      raise InputError(
        f'config.data.problems names {problem!r}; wanted: some of '
        f'{", ".join(PROBLEMS)}.'
      )
  _require_features(config)
  model = config.model
  if not 0 <= model.compatible_dimension <= model.dimension:
    raise InputError(
      f'config.model.compatible_dimension is {model.compatible_dimension}; '
      f'wanted: at most config.model.dimension, {model.dimension}, or 0 for '
      'all of it.'
    )
  if config.batch_size % jax.device_count():
    raise InputError(
      f'config.batch_size is {config.batch_size}, which {jax.device_count()} '
      'devices cannot share; wanted: a multiple of their number.'
    )
  _require_cuttable_classes(config)


def _require_cuttable_classes(config: ml_collections.ConfigDict) -> None:
  """Refuses to cut the classes of a method that needs them whole."""
  if not config.shard_classes:
    return
  method = find_method(config.method)
  reason = method.needs_whole_classes
  if method.combine_gradients is not None:
    reason = reason or 'it combines the gradients of several losses'
  if reason:
    able = [
      name for name, each in METHODS.items() if not each.needs_whole_classes
    ]
    raise InputError(
      f'config.shard_classes is set, but the classes of config.method '
      f'{config.method!r} cannot be cut over the devices: {reason}. Wanted: '
      f'config.shard_classes=False, or one of {", ".join(able)}.'
    )


def _require_features(config: ml_collections.ConfigDict) -> None:
  """Refuses a head without features, and features without a head."""
  architecture, features = config.model.architecture, config.data.features
  if takes_features(architecture) and not features:
    raise InputError(
      f'config.model.architecture is {architecture!r}, a head on stored '
      'features, but config.data.features is empty; wanted: the stores of the '
      "new encoder's vectors, such as DATA/new (advbct prepare vectors)."
    )
  if features and not takes_features(architecture):
    raise InputError(
      f'config.data.features is {features!r}, but config.model.architecture '
      f'{architecture!r} takes images; wanted: features or features_mlp, or '
      'an empty config.data.features.'
    )


def _require_known(config: ml_collections.ConfigDict, known: dict) -> None:
  for name, values in known.items():
    value = read_field(config, name)
    if value not in values:
      raise InputError(
        f'config.{name} is {value!r}; wanted: one of {", ".join(values)}.'
      )


def _require_positive(config: ml_collections.ConfigDict, *names: str) -> None:
  for name in names:
    value = read_field(config, name)
    if value <= 0:
      raise InputError(f'config.{name} is {value}; wanted: more than 0.')


def read_field(config: ml_collections.ConfigDict, name: str) -> Any:
  """A field of a config by its whole name, such as `data.split.kind`."""
  for part in name.split('.'):
    config = config[part]
  return config


def change_config(config: ml_collections.ConfigDict, change: object) -> None:
  """Makes a change that a grid or a chain names.

  Args:
    config: a copy of its `config.base`, which is changed.
    change: fields and values, parts within parts.

  Raises:
    InputError: if there is no such field, or a value is of another type.
  """
  try:
    config.update(change)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise InputError(
      f'a change of config.base fails: {error}. Wanted: fields of config.base, '
      'with values of their types.'
    ) from error
