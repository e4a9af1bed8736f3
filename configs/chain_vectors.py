"""A chain of heads on the vectors of a new encoder, after those of an old one.

  advbct chain --config=chain_vectors --config.base.data.root=FOLDER

FOLDER is the data of configs/vectors.py. The old encoder as it is is step 1;
the heads of steps 2 to 4 are trained on 40%, 70% and all of the classes.
"""

import ml_collections
from ml_collections import config_dict

from configs import vectors


def get_config() -> ml_collections.ConfigDict:
  """Returns a given encoder and three heads."""
  config = config_dict.ConfigDict()
  config.base = vectors.get_config()
  config.steps = tuple(
    {'data': {'split': {'new_fraction': share}}} for share in (0.4, 0.7, 1.0)
  )
  return config
