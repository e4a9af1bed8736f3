"""The old encoder of gldv2.py by itself: ResNet-18 on 30% of the classes.

  python train.py --config=configs/gldv2_old.py --config.data.root=GLDV2 \
    --config.model.init_weights=resnet18.safetensors

Several upgrades can then share it: --config.old.path=runs/gldv2_old.

Published (Pan et al., CVPR 2023): RParis 74.29, ROxford 54.34, GLDv2 11.43. Not
measured by us.
"""

import ml_collections

from configs import gldv2


def get_config() -> ml_collections.ConfigDict:
  """Returns the old encoder's training."""
  config = gldv2.get_config()
  config.method = 'independent'
  config.data.part = 'old'
  return config
