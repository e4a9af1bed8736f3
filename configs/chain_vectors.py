"""A chain of heads on the vectors of a new encoder, after those of an old one.

  advbct chain --config=chain_vectors --config.base.data.root=FOLDER

FOLDER is the data of configs/vectors.py. The old encoder as it is is step 1;
the heads of steps 2 to 4 are trained on 40%, 70% and all of the classes.

Measured by this command on two encoders of short texts (one seed, CPU; mAP@100
of the Private queries; queries down, galleries across):

         1      2      3      4
  1  55.90  50.35  50.34  50.32
  2  51.18  66.45  66.44  66.44
  3  51.18  66.44  66.44  66.45
  4  51.19  66.45  66.45  66.45

Average compatibility 0.333, average accuracy 60.81. Heads of one encoder stay
near the rotation that they start from (configs/vectors.py), so the galleries of
steps 2 to 4 serve each other's queries but for a hundredth; that of step 1
serves none as well as its own.

With --config.tied_to=all (docs/chains.md):

         1      2      3      4
  1  55.90  50.35  54.63  54.96
  2  51.18  66.45  66.20  66.24
  3  54.70  66.11  66.44  66.43
  4  54.85  66.04  66.40  66.38

Average compatibility 0.000, average accuracy 61.44.
"""

import ml_collections
from ml_collections import config_dict

from configs import vectors


def get_config() -> ml_collections.ConfigDict:
  """Returns a given encoder and three heads."""
  config = config_dict.ConfigDict()
  config.base = vectors.get_config()
  config.tied_to = 'previous'  # or all: the mean of all steps before
  config.steps = tuple(
    {'data': {'split': {'new_fraction': share}}} for share in (0.4, 0.7, 1.0)
  )
  return config
