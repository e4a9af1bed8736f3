"""A chain with a fixed classifier, one model of which is replaced.

  advbct chain --config=chain_fixed_classifier --config.base.data.root=GLYPHS

GLYPHS is the data of configs/glyphs.py. All steps are drawn to the vertices of
one simplex (d-Simplex, then HOC), as in Biondi et al., "Stationary
representations", CVPR 2024: the second and the fourth start from the weights of
the step before them, the third is another model, half again as wide.

With few epochs (--config.base.old.epochs=20 and
--config.base.old.optimizer.drop_epochs='(10, 16)', --config.base.epochs=10 and
--config.base.optimizer.drop_epochs='(5, 8)'; one seed, CPU; mAP@100 of the
Private queries; queries down, galleries across):

         1      2      3      4
  1  24.34  25.97  23.55  21.32
  2  24.27  30.85  28.45  27.13
  3  22.15  28.92  33.89  34.82
  4  21.07  29.55  35.59  38.35

Average compatibility 0.167, average accuracy 28.90.
"""

import ml_collections
from ml_collections import config_dict

from configs import glyphs

# More than the 129 classes of the data.
_VERTICES = 256


def get_config() -> ml_collections.ConfigDict:
  """Returns d-Simplex, HOC, HOC with another backbone and HOC again."""
  config = config_dict.ConfigDict()
  config.base = glyphs.get_config()
  config.base.method = 'hoc'
  config.base.hoc.vertices = config.base.d_simplex.vertices = _VERTICES
  for model in (config.base.model, config.base.old.model):
    model.dimension = _VERTICES - 1
  config.base.model.init_weights = 'old'
  config.base.epochs = 30
  config.base.optimizer.drop_epochs = (15, 24)
  config.tied_to = 'previous'  # or all: the mean of all steps before
  config.steps = (
    {'method': 'd_simplex', 'data': {'split': {'new_fraction': 0.3}}},
    {'data': {'split': {'new_fraction': 0.6}}},
    {
      'data': {'split': {'new_fraction': 0.8}},
      'model': {'width': 0.375, 'init_weights': ''},
    },
    {'data': {'split': {'new_fraction': 1.0}}, 'model': {'width': 0.375}},
  )
  return config
