"""AdvBCT on GLDv2, ResNet-18 to ResNet-50: new classes and a new backbone.

  python train.py --config=configs/gldv2_resnet50.py \
    --config.data.root=GLDV2 --config.old.path=runs/gldv2_old \
    --config.model.init_weights=resnet50.safetensors

Not measured by us: it takes GLDv2's training images and a GPU.
"""

import ml_collections

from configs import gldv2


def get_config() -> ml_collections.ConfigDict:
  """Returns gldv2.py with a larger new encoder; the old one stays."""
  config = gldv2.get_config()
  config.model.architecture = 'resnet50'
  return config
