r"""AdvBCT as in the paper's comparison: ResNet-18 to ResNet-18 on GLDv2.

  python train.py --config=configs/paper/advbct.py \
    --config.data.root=GLDV2 --config.old.path=runs/gldv2_old \
    --config.model.init_weights=resnet18.safetensors

Its own settings are written out, whatever the defaults become: its threshold of
1, raw embeddings into a discriminator whose BatchNorm sees the two domains
apart, the boundary over the violators.

Published by Pan et al. (CVPR 2023, their table of methods; medium mAP without
query crop on RParis and ROxford, private mAP@100 on GLDv2), old / self / cross.
Extended-class: RParis 74.29 / 82.05 / 77.16; ROxford 54.34 / 64.51 / 54.82;
GLDv2 11.43 / 16.44 / 12.05. Extended-data
(--config.data.split.kind=extended_data): RParis 75.45 / 82.78 / 78.55; ROxford
49.15 / 62.13 / 52.31; GLDv2 10.03 / 15.71 / 11.49. Not measured by us.
"""

import ml_collections

from configs import gldv2


def get_config() -> ml_collections.ConfigDict:
  """Returns the published settings of AdvBCT."""
  config = gldv2.get_config()
  config.method = 'advbct'
  config.evaluation.crop_queries = False  # the paper's protocol
  config.advbct.threshold = 1.0
  config.advbct.radius = 'elastic'
  config.advbct.boundary_mean = 'violators'
  config.advbct.discriminator_input = 'raw'
  config.advbct.discriminator_norm = 'per_domain'
  config.advbct.boundary_weight = config.advbct.adversarial_weight = 1.0
  return config
