r"""BCT as in the paper's comparison: ResNet-18 to ResNet-18 on GLDv2.

  python train.py --config=configs/paper/bct.py \
    --config.data.root=GLDV2 --config.old.path=runs/gldv2_old \
    --config.model.init_weights=resnet18.safetensors

Its own settings are written out, whatever the defaults become: the old
classifier on new embeddings, weight 1.

Published by Pan et al. (CVPR 2023, their table of methods; medium mAP without
query crop on RParis and ROxford, private mAP@100 on GLDv2), old / self / cross.
Extended-class: RParis 74.29 / 79.45 / 76.13; ROxford 54.34 / 58.94 / 53.43;
GLDv2 11.43 / 14.79 / 12.26. Extended-data
(--config.data.split.kind=extended_data): RParis 75.45 / 80.58 / 77.37; ROxford
49.15 / 56.34 / 49.66; GLDv2 10.03 / 14.61 / 11.30. Not measured by us.
"""

import ml_collections

from configs import gldv2


def get_config() -> ml_collections.ConfigDict:
  """Returns the published settings of BCT."""
  config = gldv2.get_config()
  config.method = 'bct'
  config.evaluation.crop_queries = False  # the paper's protocol
  config.bct.weight = 1.0
  return config
