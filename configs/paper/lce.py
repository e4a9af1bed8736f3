r"""LCE as in the paper's comparison: ResNet-18 to ResNet-18 on GLDv2.

  python train.py --config=configs/paper/lce.py \
    --config.data.root=GLDV2 --config.old.path=runs/gldv2_old \
    --config.model.init_weights=resnet18.safetensors

Its own settings are written out, whatever the defaults become: both terms with
weight 1.

Published by Pan et al. (CVPR 2023, their table of methods; medium mAP without
query crop on RParis and ROxford, private mAP@100 on GLDv2), old / self / cross.
Extended-class: RParis 74.29 / 81.26 / 76.78; ROxford 54.34 / 60.49 / 54.29;
GLDv2 11.43 / 16.07 / 12.04. Extended-data
(--config.data.split.kind=extended_data): RParis 75.45 / 81.57 / 77.83; ROxford
49.15 / 60.85 / 51.35; GLDv2 10.03 / 16.48 / 12.17. Not measured by us.
"""

import ml_collections

from configs import gldv2


def get_config() -> ml_collections.ConfigDict:
  """Returns the published settings of LCE."""
  config = gldv2.get_config()
  config.method = 'lce'
  config.evaluation.crop_queries = False  # the paper's protocol
  config.lce.boundary_weight = config.lce.alignment_weight = 1.0
  return config
