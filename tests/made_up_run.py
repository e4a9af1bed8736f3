"""The run of any config, on data that nobody needs."""

import pathlib

import ml_collections
import numpy as np

from advbct_jax.data.images import ImageSet
from advbct_jax.data.pipeline import LoadBatch
from advbct_jax.data.splits import split_training_set
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.embeddings.features import FeatureRows, StoredFeatures
from advbct_jax.methods import find_method
from advbct_jax.methods.method import OldModel, OldSide
from advbct_jax.models.backbones import takes_features
from advbct_jax.training.run import Run, TrainingSet, compatible_dimension


def make_run(config: ml_collections.ConfigDict) -> Run:
  """The run of a config, on made-up data of 20 classes."""
  landmarks = np.repeat(np.arange(20), config.batch_size)
  split = split_training_set(landmarks, **config.data.split)
  images = ImageSet('none', [], [])
  load = LoadBatch(images, config.data.image_size)
  if takes_features(config.model.architecture):
    load = FeatureRows(
      images,
      StoredFeatures(pathlib.Path(), 'none', '', 32, pathlib.Path()),
      store=None,
      rows=np.arange(0),
    )
  dimension = compatible_dimension(config.model)
  statistics = class_statistics(
    np.ones((len(landmarks), dimension), np.float32),
    split.old_labels,
    split.old_classes,
  )
  zeros = np.zeros((len(landmarks), dimension), np.float32)
  method = find_method(config.method)
  return Run(
    config,
    TrainingSet(
      load,
      np.arange(len(landmarks)),
      split.labels,
      split.classes,
    ),
    OldSide(
      zeros,
      split.labels,
      split.old_labels,
      OldModel(statistics, split.old_class),
      {name: zeros for name in method.stores},
    )
    if method.needs_old_model
    else None,
  )
