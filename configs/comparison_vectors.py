r"""Policies, adapters and heads on the same vectors of two frozen encoders.

  python compare.py --config=configs/comparison_vectors.py \
    --config.base.data.root=FOLDER

FOLDER is the data of configs/vectors.py. Neither encoder is trained: the
independent one is the new encoder as it is, which policies and adapters take;
methods train a head on it. A block with `policies` is also judged by them while
the gallery is re-embedded. docs/comparison_vectors.md has the tables.

A cell of 384-d texts takes about half a minute of processor time, one of 1280-d
photographs several times that; --seeds=0,1,2 shows the noise.
"""

import ml_collections
from ml_collections import config_dict

from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.methods import METHODS
from configs import vectors


def get_config() -> ml_collections.ConfigDict:
  """Returns the methods from four starts, all adapters and the policies."""
  # A new method is in the grid by itself.
  compatible = tuple(
    name
    for name, method in METHODS.items()
    # A frozen old encoder has no fixed classifier, and BT² wants its own width.
    if method.needs_old_model and not method.old_methods and name != 'bt2'
  )
  # FCT's 80 epochs take minutes where others take seconds: docs/adapters.md.
  adapters = (name for name in ADAPTERS if name != 'fct')
  config = config_dict.ConfigDict(
    {
      'upgrades': {'frozen': {}},
      'methods': {
        **{name: {'method': name} for name in ('independent', *compatible)},
        # What a head learns of the classes alone.
        'no_tie': {'method': 'l2', 'l2': {'weight': 0.0}},
      },
      'starts': {
        'fresh': {
          'model': {'init_weights': '', 'head': 'batch_norm'},
          'epochs': 10,
          'optimizer': {'learning_rate': 1e-3},
        },
        'identity': {
          'model': {'init_weights': 'identity'},
          'epochs': 10,
          'optimizer': {'learning_rate': 1e-3},
        },
        # At the low rate of configs/vectors.py, near which a head stays.
        'rotation': {'model': {'init_weights': 'rotation'}},
        'rotation_fast': {
          'model': {'init_weights': 'rotation'},
          'epochs': 10,
          'optimizer': {'learning_rate': 1e-4},
        },
      },
    }
  )
  config.base = vectors.get_config()
  config.blocks = (
    {
      'upgrades': ('frozen',),
      'methods': ('independent',),
      'starts': ('fresh',),
      'policies': (
        'old',
        'fixed',
        'refit',
        'interpolate',
        'bridge',
        'auto_new',
        'auto',
        'cascade:50',
      ),
    },
    {
      'upgrades': ('frozen',),
      'methods': ('independent',),
      'starts': (*adapters, 'procrustes:forward', 'ridge:forward'),
      'policies': ('adapter',),
    },
    {
      'upgrades': ('frozen',),
      'methods': (*compatible, 'no_tie'),
      'starts': ('fresh', 'rotation'),
      'policies': ('trained', 'auto'),
    },
    {
      'upgrades': ('frozen',),
      'methods': ('advbct', 'bct', 'l2', 'no_tie'),
      'starts': ('identity', 'rotation_fast'),
      'policies': ('trained', 'auto'),
    },
    # A rotation upon each head, and the best of the other maps upon the untied.
    {
      'upgrades': ('frozen',),
      'methods': (*compatible, 'no_tie'),
      'starts': ('fresh+procrustes', 'rotation+procrustes'),
    },
    {
      'upgrades': ('frozen',),
      'methods': ('advbct', 'bct', 'l2', 'no_tie'),
      'starts': ('identity+procrustes', 'rotation_fast+procrustes'),
    },
    {
      'upgrades': ('frozen',),
      'methods': ('no_tie',),
      'starts': ('fresh+ridge:forward', 'fresh+fastfill'),
    },
  )
  config.seeds = (0,)
  return config
