"""A whole upgrade in minutes on a CPU, without any download.

python train.py --config=configs/demo.py
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
  """Returns an extended-class upgrade on procedural landmarks."""
  config = base.get_config()
  config.data.name = 'landmarks'
  config.data.root = 'runs/landmarks'
  config.data.image_size = 48
  config.data.drawing.classes = 300
  config.data.drawing.images_per_class = 12
  config.data.drawing.held_out_classes = 60
  config.data.drawing.image_size = 48
  config.data.drawing.seed = 0
  config.data.augmentation = 'affine'
  config.data.workers = 0
  config.batch_size = 64
  config.checkpoint.every_steps = 500
  config.evaluation.data = ('landmarks',)
  config.evaluation.crop_queries = False
  for model in (config.model, config.old.model):
    model.width = 0.25
    model.stem = 'small'
    model.dimension = 128
  config.model.init_weights = 'old'
  config.epochs = 14
  config.optimizer.learning_rate = 0.03
  config.optimizer.drop_epochs = (9, 12)
  config.old.epochs = 40
  config.old.optimizer.drop_epochs = (26, 35)
  return config
