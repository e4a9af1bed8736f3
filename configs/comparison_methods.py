r"""Every method in one grid, of half the epochs, with maps upon every encoder.

  python compare.py --config=configs/comparison_methods.py \
    --config.base.data.root=GLYPHS

GLYPHS is the data of configs/glyphs.py. New encoders are trained for 30 epochs,
half of what configs/comparison.py gives them, so that all methods fit into one
run; beside them stand an encoder without any tie, from fresh, old and aligned
weights, and, upon each, a rotation of the queries and a map of the gallery.
docs/comparison.md has the tables.
"""

import ml_collections

from configs import comparison

# Upon a trained encoder: one that keeps its space, and one that bends it.
UPON = ('procrustes', 'ridge')


def get_config() -> ml_collections.ConfigDict:
  """Returns the grid; fixed classifiers have an upgrade of their own."""
  config = comparison.get_config()
  config.base.epochs = 30
  config.base.optimizer.drop_epochs = (15, 24)
  config.base.evaluation.every_epochs = 30
  # Each with one part of the improved variant as AdvBCT has it, or without it.
  improved = {
    'improved_class_center': {'boundary_center': 'class'},
    'improved_elastic': {'radius': 'elastic'},
    'improved_adversary': {'adversarial_weight': 1.0},
    'improved_no_margin': {'margin_scale': 0.0},
    'improved_no_boundary': {'boundary_weight': 0.0},
  }
  config.methods.update(
    {
      **{
        name: {'method': 'advbct_improved', 'advbct_improved': changes}
        for name, changes in improved.items()
      },
      'unibct_refined': {
        'method': 'unibct',
        'unibct': {'refinement_epochs': (10, 20)},
      },
    }
  )
  tied = (
    *('bct', 'advbct', 'l2', 'weakened_l2', 'triplet', 'lwf', 'bct_ranking'),
    *('hot_refresh', 'mixbct', 'nccl', 'unibct_refined', 'odpp', 'ndpp'),
    *('lce', 'contrastive'),
  )
  # Those that are looked at more closely from the old weights.
  starting_old = ('no_tie', 'bct', 'mixbct', 'advbct_improved', 'triplet')
  extended_class = {'upgrades': ('extended_class',)}
  others = ('extended_data', 'extended_backbone')
  config.blocks = (
    {
      **extended_class,
      'methods': ('independent',),
      'starts': (
        'fresh',
        *UPON,
        *(f'{adapter}:forward' for adapter in UPON),
        'fastfill',
        'fct',
      ),
    },
    {
      **extended_class,
      'methods': starting_old,
      'starts': (
        'old',
        *(f'old+{adapter}' for adapter in (*UPON, 'ridge:forward')),
      ),
    },
    # While the gallery is re-embedded.
    {
      **extended_class,
      'methods': ('independent',),
      'starts': ('fresh',),
      'policies': ('old', 'fixed', 'auto_new', 'auto', 'cascade:50'),
    },
    {
      **extended_class,
      'methods': starting_old,
      'starts': ('old',),
      'policies': ('trained', 'auto'),
    },
    {
      **extended_class,
      'methods': ('independent',),
      'starts': ('ridge:forward',),
      'policies': ('adapter',),
    },
    {
      **extended_class,
      'methods': starting_old,
      'starts': ('old+ridge:forward',),
      'policies': ('adapter',),
    },
    {
      **extended_class,
      'methods': tied,
      'starts': ('fresh', 'fresh+procrustes', 'fresh+ridge:forward'),
    },
    # BT² is wider than the old encoder: it can't start at its weights, nor is
    # the old gallery moved to all of its components.
    {
      'upgrades': ('extended_class', *others),
      'methods': ('bt2',),
      'starts': ('fresh', 'fresh+procrustes'),
    },
    {
      **extended_class,
      'methods': (*tied, *improved),
      'starts': ('old', 'old+procrustes', 'old+ridge:forward'),
    },
    {
      **extended_class,
      'methods': ('no_tie', 'bct', 'advbct', 'l2', 'mixbct', 'triplet'),
      'starts': ('aligned', 'aligned+procrustes', 'aligned+ridge:forward'),
    },
    # The other upgrades; in one of them the old backbone is another.
    {
      'upgrades': others,
      'methods': ('independent',),
      'starts': ('fresh', 'procrustes', 'ridge:forward'),
    },
    {
      'upgrades': ('extended_data',),
      'methods': starting_old,
      'starts': ('old', 'old+procrustes', 'old+ridge:forward'),
    },
    {
      'upgrades': others,
      'methods': (*tied, 'advbct_improved'),
      'starts': ('fresh', 'fresh+procrustes', 'fresh+ridge:forward'),
    },
    {
      'upgrades': ('fixed_classifier',),
      'methods': ('independent',),
      'starts': ('fresh', 'procrustes', 'ridge:forward'),
    },
    {
      'upgrades': ('fixed_classifier',),
      'methods': ('d_simplex', 'hoc'),
      'starts': ('fresh', 'fresh+procrustes'),
    },
  )
  return config
