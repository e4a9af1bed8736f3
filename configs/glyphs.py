"""Handwritten characters: a small real set that trains in minutes on a CPU."""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
  """Returns the paper's extended-class upgrade at the scale of a laptop."""
  config = base.get_config()
  config.data.name = 'glyphs'
  config.data.image_size = 32
  config.data.augmentation = 'affine'
  config.data.workers = 0
  config.batch_size = 128
  config.checkpoint.every_steps = 400
  config.evaluation.data = ('glyphs',)
  for model in (config.model, config.old.model):
    model.width = 0.25
    model.stem = 'small'
    model.dimension = 128
  config.epochs = config.old.epochs = 60
  for optimizer in (config.optimizer, config.old.optimizer):
    optimizer.drop_epochs = (30, 48)
  return config
