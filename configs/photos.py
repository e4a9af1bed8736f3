"""Small photographs in GLDv2's layout: for the pipeline, not for quality."""

import ml_collections

from configs import glyphs


def get_config() -> ml_collections.ConfigDict:
  """Returns glyphs.py at 64 pixels and fewer epochs."""
  config = glyphs.get_config()
  config.data.name = 'photos'
  config.data.image_size = 64
  config.data.augmentation = 'crop_flip'
  config.evaluation.data = ('photos',)
  config.epochs = config.old.epochs = 6
  for optimizer in (config.optimizer, config.old.optimizer):
    optimizer.drop_epochs = (3, 5)
  return config
