r"""UniBCT as in the paper's comparison: ResNet-18 to ResNet-18 on GLDv2.

  python train.py --config=configs/paper/unibct.py \
    --config.data.root=GLDV2 --config.old.path=runs/gldv2_old \
    --config.model.init_weights=resnet18.safetensors

Its own settings are written out, whatever the defaults become: ArcFace with s =
30 and m = 0.3 against the old centres.

Published by Pan et al. (CVPR 2023, their table of methods; medium mAP without
query crop on RParis and ROxford, private mAP@100 on GLDv2), old / self / cross.
Extended-class: RParis 74.29 / 76.92 / 74.55; ROxford 54.34 / 59.07 / 57.82;
GLDv2 11.43 / 14.80 / 12.31. Extended-data
(--config.data.split.kind=extended_data): RParis 75.45 / 80.93 / 78.30; ROxford
49.15 / 57.24 / 50.97; GLDv2 10.03 / 16.06 / 13.25. Not measured by us.
"""

import ml_collections

from configs import gldv2


def get_config() -> ml_collections.ConfigDict:
  """Returns the published settings of UniBCT."""
  config = gldv2.get_config()
  config.method = 'unibct'
  config.evaluation.crop_queries = False  # the paper's protocol
  config.unibct.scale = 30.0
  config.unibct.margin = 0.3
  config.unibct.weight = 1.0
  return config
