"""A chain of three encoders of handwritten characters.

  advbct chain --config=chain_glyphs --config.base.data.root=GLYPHS

GLYPHS is the data of configs/glyphs.py. The first encoder is trained on 30% of
the classes without any tie, the second on 60% and the third on all, each with
BCT from the weights of the one before it.

Measured by this command (one seed, CPU; mAP@100 of the Private queries; queries
down, galleries across):

         1      2      3
  1  32.10  26.06  25.14
  2  28.22  39.33  36.68
  3  26.89  37.68  46.24

Average compatibility 0.000, average accuracy 35.08: each step loses some points
on each earlier gallery.
"""

import ml_collections
from ml_collections import config_dict

from configs import glyphs


def get_config() -> ml_collections.ConfigDict:
  """Returns BCT from the old weights, twice."""
  config = config_dict.ConfigDict()
  config.base = glyphs.get_config()
  config.base.method = 'bct'
  config.base.model.init_weights = 'old'
  config.base.epochs = 20  # from weights that are trained already
  config.base.optimizer.drop_epochs = (10, 16)
  config.tied_to = 'previous'  # or all: the mean of all steps before
  config.steps = tuple(
    {'data': {'split': {'new_fraction': share}}} for share in (0.3, 0.6, 1.0)
  )
  return config
