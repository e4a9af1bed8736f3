"""A run on noise, without files."""

import dataclasses

import numpy as np

from advbct_jax.data.images import ImageSet
from advbct_jax.data.pipeline import LoadBatch
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.methods.method import OldModel, OldSide
from advbct_jax.training.run import Run, TrainingSet
from advbct_jax.training.start import old_start

CLASSES, OLD_CLASSES, IMAGES, DIMENSION = 4, 2, 16, 8


def noise_run(config, encoder=None, classes=CLASSES):
  """A run on 16 images of a few classes, the first 2 of which are old.

  Args:
    config: of the tiny upgrade.
    encoder: the old encoder, where there is one.
    classes: how many.
  """
  random = np.random.default_rng(0)
  labels = np.sort(np.arange(IMAGES, dtype=np.int32) % classes)
  embeddings = random.normal(size=(IMAGES, DIMENSION)).astype(np.float32)
  images = random.integers(0, 256, (IMAGES, 16, 16, 3), np.uint8)
  image_set = ImageSet('noise', [str(row) for row in range(IMAGES)], [])
  numbers = np.arange(classes)
  old_class = np.where(numbers < OLD_CLASSES, numbers, -1)
  statistics = class_statistics(embeddings, old_class[labels], OLD_CLASSES)
  return Run(
    config,
    TrainingSet(
      LoadBatch(image_set, 16, images), np.arange(IMAGES), labels, classes
    ),
    OldSide(
      embeddings, labels, old_class[labels], OldModel(statistics, old_class)
    ),
    old_start(encoder) if encoder else None,
  )


def independent_run(config):
  """The same run without any old encoder."""
  config.method = 'independent'
  return dataclasses.replace(noise_run(config), old=None)
