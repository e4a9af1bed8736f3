"""AdvBCT on GLDv2, ResNet-18 to ResNet-18, extended-class: the paper's setting.

  python train.py --config=configs/gldv2.py --config.data.root=GLDV2 \
    --config.model.init_weights=resnet18.safetensors \
    --config.old.model.init_weights=resnet18.safetensors

GLDV2 is a folder in the published layout or one that `advbct_jax.data.prepare
records` has made. The paper starts the old and the new encoder from the same
ImageNet weights. The old encoder is trained first, in WORKDIR/old, unless
--config.old.path names one (see gldv2_old.py).

Published (Pan et al., CVPR 2023; medium mAP without query crop on RParis and
ROxford, private mAP@100 on GLDv2), old / self / cross: RParis 74.29 / 82.05 /
77.16, ROxford 54.34 / 64.51 / 54.82, GLDv2 11.43 / 16.44 / 12.05. Not measured
by us: it takes GLDv2's training images and a GPU.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
  """Returns the published setting, which is the base's."""
  return base.get_config()
