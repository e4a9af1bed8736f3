r"""The methods side by side on handwritten characters, with the noise shown.

  python compare.py --config=configs/comparison.py \
    --config.base.data.root=GLYPHS

GLYPHS is the data of configs/glyphs.py. `upgrades`, `methods` and `starts` are
names with what each changes in `base`; `blocks` says which of them are crossed.
An adapter takes the place of a start of `independent`, since it is fitted after
the training, and follows that of a tied encoder, as in `old+procrustes`.
docs/comparison.md has the tables.
"""

import ml_collections
from ml_collections import config_dict

from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.methods import METHODS
from configs import glyphs


def get_config() -> ml_collections.ConfigDict:
  """Returns the grid of the paper's comparison, and what lies beyond it."""
  base = glyphs.get_config()
  # A new method is in the grid by itself.
  compatible = tuple(
    name
    for name, method in METHODS.items()
    if method.needs_old_model and not method.old_methods
  )
  # As many vertices as the embedding can have, and there are classes.
  base.d_simplex.vertices = base.hoc.vertices = base.model.dimension + 1
  upgrades = ('extended_class', 'extended_data', 'extended_backbone')
  changes = {
    'upgrades': {
      'extended_class': {},
      'extended_data': {'data': {'split': {'kind': 'extended_data'}}},
      # The old backbone has half the channels of the new one.
      'extended_backbone': {'old': {'model': {'width': 0.125}}},
      # Both encoders have the same fixed classifier.
      'fixed_classifier': {'old': {'method': 'd_simplex'}},
    },
    'methods': {
      **{name: {'method': name} for name in METHODS},
      'bt2': {
        'method': 'bt2',
        'model': {
          'dimension': base.model.dimension + base.bt2.extra_dimensions,
          'compatible_dimension': base.model.dimension,
        },
      },
      # With the published margin, for faces, it doesn't learn here.
      'mixbct': {
        'method': 'mixbct',
        'mixbct': {'margin_scale': 16.0, 'margin_size': 0.1},
      },
      'no_tie': {'method': 'l2', 'l2': {'weight': 0.0}},
      # As MixBCT's authors have re-implemented AdvBCT.
      'advbct_normalized': {
        'method': 'advbct',
        'advbct': {'discriminator_input': 'normalized', 'threshold': 0.4},
      },
    },
    'starts': {
      'fresh': {},
      'old': {'model': {'init_weights': 'old'}},
      'aligned': {
        'model': {'init_weights': 'aligned'},
        'epochs': 24,
        'optimizer': {'learning_rate': 0.02, 'drop_epochs': (12, 19)},
      },
    },
  }
  config = config_dict.ConfigDict(changes)
  config.base = base
  config.blocks = (
    {
      'upgrades': upgrades,
      'methods': ('independent',),
      'starts': ('fresh', *ADAPTERS, 'procrustes:forward', 'ridge:forward'),
    },
    {
      'upgrades': upgrades,
      'methods': compatible,
      'starts': ('fresh', 'fresh+procrustes'),
    },
    {
      'upgrades': ('extended_class',),
      'methods': (
        *('no_tie', 'advbct', 'bct', 'l2'),
        *('mixbct', 'advbct_improved', 'triplet'),
      ),
      'starts': ('old', 'old+procrustes', 'aligned', 'aligned+procrustes'),
    },
    {
      'upgrades': ('extended_class',),
      'methods': ('advbct_normalized',),
      'starts': ('fresh',),
    },
    {
      'upgrades': ('fixed_classifier',),
      'methods': ('independent', 'd_simplex', 'hoc'),
      'starts': ('fresh',),
    },
  )
  config.seeds = (0, 1, 2)
  return config
