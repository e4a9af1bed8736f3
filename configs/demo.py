"""A whole upgrade in minutes on a CPU, without any download.

  python train.py --config=configs/demo.py

Draws 300 landmarks to train on and 60 others to judge on
(advbct_jax/drawn_landmarks), trains the old encoder on 30% of the classes and
the new one with AdvBCT on all of them. Medium mAP with --config.seed=0, 1, 2,
old / cross / self: 15.9 / 20.1 / 34.1, 18.4 / 23.9 / 37.6, 12.1 / 14.4 / 25.7;
on another CPU, which rounds otherwise, 22.6 / 27.5 / 41.9 with seed 0.

What makes cross better than old here: the new encoder starts from the old one's
weights (the paper starts both from the same ImageNet weights) and learns at a
third of the rate, so that it stays near; and 90 classes are few enough that 210
more teach it much. From fresh weights at the full rate, the 14 epochs end at
cross 5.4 and self 6.4 (seed 0: --config.model.init_weights= and
--config.optimizer.learning_rate=0.1).
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
  config.evaluation.every_epochs = 2
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
