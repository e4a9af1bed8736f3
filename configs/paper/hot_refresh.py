r"""Hot-refresh as in the paper's comparison: ResNet-18 to ResNet-18 on GLDv2.

  python train.py --config=configs/paper/hot_refresh.py \
    --config.data.root=GLDV2 --config.old.path=runs/gldv2_old \
    --config.model.init_weights=resnet18.safetensors

Its own settings are written out, whatever the defaults become: temperature
0.01, ten negatives of each kind.

Published by Pan et al. (CVPR 2023, their table of methods; medium mAP without
query crop on RParis and ROxford, private mAP@100 on GLDv2), old / self / cross.
Extended-class: RParis 74.29 / 78.93 / 75.33; ROxford 54.34 / 60.31 / 51.68;
GLDv2 11.43 / 14.00 / 10.41. Extended-data
(--config.data.split.kind=extended_data): RParis 75.45 / 79.57 / 76.53; ROxford
49.15 / 58.15 / 50.05; GLDv2 10.03 / 13.88 / 10.35. Not measured by us.
"""

import ml_collections

from configs import gldv2


def get_config() -> ml_collections.ConfigDict:
  """Returns the published settings of Hot-refresh."""
  config = gldv2.get_config()
  config.method = 'hot_refresh'
  config.evaluation.crop_queries = False  # the paper's protocol
  config.hot_refresh.temperature = 0.01
  config.hot_refresh.negatives = 10
  config.hot_refresh.weight = 1.0
  return config
