"""Starts from an independent encoder, turned onto the old one.

A step beyond the papers. The orthogonal Procrustes rotation that brings an
independent encoder's stored training vectors nearest to the old ones changes no
cosine among them, so it costs nothing by itself; folded into the weights it is
a start from which a method has less to bend.
"""

import pathlib
from typing import Any

import ml_collections
import numpy as np

from advbct_jax.adapters.procrustes import procrustes_rotation
from advbct_jax.embeddings.sources import find_rows
from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import (
  is_workdir,
  load_trained,
  read_config,
)
from advbct_jax.training.old_side import describe_start, embed_training_images
from advbct_jax.training.start import Start
from advbct_jax.training.training_images import TrainingImages
from advbct_jax.training.workdir import read_inputs, require_finished

# Of the encoder's last BatchNorm.
_EPSILON = 1e-5

_WANTED = (
  "config.model.init_weights is 'aligned'; wanted: in config.aligned.path the "
  'workdir of the same model trained with --config.method=independent'
)


def check_independent(
  config: ml_collections.ConfigDict, images: TrainingImages
) -> None:
  """Refuses an aligned start that cannot be made, before anything is trained.

  Args:
    config: of the upgrade.
    images: of the upgrade.

  Raises:
    InputError: if `config.aligned.path` is not the workdir of a finished
      run with the method `independent`, of the same model and the same images.
  """
  if not config.aligned.path:
    raise InputError(f'{_WANTED}, but that is empty.')
  path = pathlib.Path(config.aligned.path)
  if not is_workdir(path):
    raise InputError(f'{_WANTED}, but {path} has no config.json.')
  require_finished(path)
  check_independent_config(config, read_config(path), str(path))
  digest = images.image_set.ids_digest()
  if read_inputs(path)['training_images'] != digest:
    raise InputError(
      f'{path}: it was trained on other images than {images.image_set.name} of '
      f'{config.data.root}, so its classifier knows other classes. Wanted: the '
      'same train_clean.csv for both.'
    )


def check_independent_config(
  config: ml_collections.ConfigDict,
  theirs: ml_collections.ConfigDict,
  name: str,
) -> None:
  """Refuses an aligned start that cannot be made, by the configs.

  Args:
    config: of the upgrade.
    theirs: that trains or has trained the independent encoder.
    name: of the latter, for messages.

  Raises:
    InputError: as `check_independent` does.
  """
  if config.model.head not in ('batch_norm', 'linear'):
    raise InputError(
      f'{_WANTED}. But config.model.head is {config.model.head}, into which no '
      'rotation can be folded; wanted: batch_norm or linear.'
    )
  there, here = describe_start(theirs), describe_start(config)
  # The split numbers the classes, and so the classifier's columns.
  there |= {
    'method': theirs.get('method'),
    'part': theirs.data.part,
    'data.split.seed': theirs.data.split.seed,
    'data.split.new_fraction': theirs.data.split.new_fraction,
  }
  here |= {
    'method': 'independent',
    'part': config.data.part,
    'data.split.seed': config.data.split.seed,
    'data.split.new_fraction': config.data.split.new_fraction,
  }
  if differing := [field for field in here if there[field] != here[field]]:
    raise InputError(
      f'{_WANTED}, but {name} has another '
      + ', '.join(f'{field} ({there[field]})' for field in differing)
      + '.'
    )


def prepare_aligned_start(
  config: ml_collections.ConfigDict,
  images: TrainingImages,
  old_embeddings: np.ndarray,
) -> Start:
  """Rotates the independent encoder onto the old one.

  Args:
    config: of the upgrade.
    images: of the upgrade.
    old_embeddings: [N, D_old] of every training image.

  Returns:
    The rotated encoder and classifier.

  Raises:
    InputError: as `check_independent` does.
  """
  check_independent(config, images)
  path = pathlib.Path(config.aligned.path)
  _, store = embed_training_images(path, config, images)
  embeddings = store.read_rows(find_rows(store, images.image_set))
  rotation = procrustes_rotation(embeddings, old_embeddings)
  trained = load_trained(path)
  params, batch_stats = rotate(
    trained.params, trained.batch_stats, rotation, embeddings
  )
  return Start(
    f'the weights of {path}, turned onto the old encoder',
    params,
    batch_stats,
    origin=store.card.weights,
  )


def rotate(
  params: Any, batch_stats: Any, rotation: np.ndarray, embeddings: np.ndarray
) -> tuple[Any, Any]:
  """Folds a rotation of the embeddings into encoder and classifier.

  With R orthogonal, f becomes f·R and the classifier W becomes Rᵀ·W: exactly
  the same cosines and the same logits, but for rounding. BatchNorm scales each
  dimension alone, so its scale moves into the projection before that turns;
  the new scale then undoes the new variance.

  Args:
    params: of `encoder`, whose head is a projection with or without BatchNorm,
      and of `classifier`.
    batch_stats: of the encoder.
    rotation: [D, D] R.
    embeddings: [N, D] of training images before the rotation. The variance of
      the turned ones is where BatchNorm's running variance starts, so that it
      scales alike in training.

  Returns:
    Parameters and statistics of the same structure.
  """
  encoder, statistics = dict(params['encoder']), dict(batch_stats['encoder'])
  projection = {
    name: np.asarray(value, np.float64)
    for name, value in encoder['projection'].items()
  }
  if 'bn' in encoder:
    norm, running = encoder['bn'], statistics['bn']
    gain = norm['scale'] / np.sqrt(np.float64(running['var']) + _EPSILON)
    turned_variance = np.var(np.float64(embeddings) @ rotation, axis=0)
    statistics['bn'] = {
      'mean': _float32((running['mean'] * gain) @ rotation),
      'var': _float32(turned_variance),
    }
    encoder['bn'] = {
      'scale': _float32(np.sqrt(turned_variance + _EPSILON)),
      'bias': _float32(norm['bias'] @ rotation),
    }
    projection['kernel'] = projection['kernel'] * gain
  encoder['projection'] = {
    name: _float32(value @ rotation) for name, value in projection.items()
  }
  kernel = rotation.T @ np.float64(params['classifier']['kernel'])
  return (
    {'encoder': encoder, 'classifier': {'kernel': _float32(kernel)}},
    {'encoder': statistics},
  )


def _float32(values: np.ndarray) -> np.ndarray:
  return np.asarray(values, np.float32)
