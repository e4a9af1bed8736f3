r"""AdvBCT's options, one changed at a time, on handwritten characters.

  python compare.py --config=configs/comparison_advbct.py \
    --config.base.data.root=GLYPHS

GLYPHS is the data of configs/glyphs.py. All start aligned, which takes 24
epochs instead of 60. docs/comparison.md has the tables: of the two terms the
boundary ties, and the adversary costs 1.0 to 1.5 points of self; no option that
keeps both has a gain clear of its noise.
"""

import ml_collections

from configs import comparison


def get_config() -> ml_collections.ConfigDict:
  """Returns compare.py's extended-class upgrade, with variants of AdvBCT."""
  options = {
    'normalized_input': {'discriminator_input': 'normalized'},
    'joint_norm': {'discriminator_norm': 'joint'},
    'no_norm': {'discriminator_norm': 'none'},
    'eligible_mean': {'boundary_mean': 'eligible'},
    'largest_radius': {'radius': 'largest'},
    'small_threshold': {'threshold': 0.4},
    # Both, as MixBCT's authors have re-implemented AdvBCT.
    'mixbct_settings': {'discriminator_input': 'normalized', 'threshold': 0.4},
    'no_adversary': {'adversarial_weight': 0.0},
    'no_boundary': {'boundary_weight': 0.0},
  }
  config = comparison.get_config()
  config.methods.update(
    {
      name: {'method': 'advbct', 'advbct': changes}
      for name, changes in options.items()
    }
  )
  config.blocks = (
    {
      'upgrades': ('extended_class',),
      'methods': ('independent',),
      'starts': ('fresh',),
    },
    {
      'upgrades': ('extended_class',),
      'methods': ('advbct', *options),
      'starts': ('aligned',),
    },
  )
  return config
