r"""A head that knew few classes, upgraded to one that knows all of them.

  python compare.py --config=configs/comparison_heads.py \
    --config.base.data.root=FOLDER

FOLDER is the data of configs/vectors.py, of which the vectors of `new/` alone
are taken: a frozen encoder stays, and the head on it is trained anew. So a new
head can start at the old one's weights, as none of comparison_vectors.py can.
docs/comparison_vectors.md has the tables.
"""

import ml_collections
from ml_collections import config_dict

from configs import vectors


def get_config() -> ml_collections.ConfigDict:
  """Returns the methods from fresh and old weights, with maps upon all."""
  tied = ('bct', 'l2', 'mixbct', 'advbct_improved', 'nccl', 'triplet')
  config = config_dict.ConfigDict(
    {
      'upgrades': {'extended_class': {}},
      'methods': {
        **{name: {'method': name} for name in tied},
        'no_tie': {'method': 'l2', 'l2': {'weight': 0.0}},
      },
      'starts': {
        'fresh': {'model': {'init_weights': ''}},
        'old': {'model': {'init_weights': 'old'}},
      },
    }
  )
  config.base = vectors.get_config()
  config.base.old.path = ''
  config.base.model.init_weights = ''
  for model in (config.base.model, config.base.old.model):
    model.head = 'batch_norm'
    model.dimension = 256
  config.base.epochs = config.base.old.epochs = 10
  for optimizer in (config.base.optimizer, config.base.old.optimizer):
    optimizer.learning_rate = 1e-3
  # As on glyphs: the published margin is for faces.
  config.base.mixbct.margin_scale, config.base.mixbct.margin_size = 16.0, 0.1
  extended_class = {'upgrades': ('extended_class',)}
  config.blocks = (
    {
      **extended_class,
      'methods': ('no_tie', *tied),
      'starts': tuple(
        start + upon
        for start in ('fresh', 'old')
        for upon in ('', '+procrustes', '+ridge:forward')
      ),
    },
    {**extended_class, 'methods': ('no_tie',), 'starts': ('fresh+ridge',)},
    {
      **extended_class,
      'methods': (*tied, 'no_tie'),
      'starts': ('fresh', 'old'),
      'policies': ('trained', 'auto'),
    },
  )
  config.seeds = (0, 1, 2)
  return config
