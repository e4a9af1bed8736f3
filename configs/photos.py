"""Small photographs in GLDv2's layout: for the pipeline, not for quality.

  python train.py --config=configs/photos.py --config.data.root=PHOTOS

PHOTOS holds 64×64 photographs of Tiny ImageNet: 100 classes with 60 images each
to train on, 2,600 index and 600 test images of 100 others. That is too little
to learn good features from scratch. A set of the same kind from the public
images (the archive tiny-imagenet-200.zip of Stanford's CS231n):

  advbct prepare own tiny-imagenet-200/train PHOTOS

All figures are near chance (0.2): docs/comparison.md has those of every method
(configs/comparison_photos.py).
"""

import ml_collections

from configs import glyphs


def get_config() -> ml_collections.ConfigDict:
  """Returns glyphs.py at 64 pixels and fewer epochs."""
  config = glyphs.get_config()
  config.data.name = 'photos'
  config.data.image_size = 64
  config.data.augmentation = 'crop_flip'
  config.evaluation.data = ('photos',)
  config.evaluation.every_epochs = 1
  config.epochs = config.old.epochs = 3
  for optimizer in (config.optimizer, config.old.optimizer):
    optimizer.drop_epochs = (2,)
  return config
