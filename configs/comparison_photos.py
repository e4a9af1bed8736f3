r"""One short run of each method on photographs: for the pipeline, not quality.

  python compare.py --config=configs/comparison_photos.py \
    --config.base.data.root=PHOTOS

PHOTOS is the data of configs/photos.py, too little to learn good features from.
docs/comparison.md says how it went.
"""

import ml_collections

from configs import comparison, photos


def get_config() -> ml_collections.ConfigDict:
  """Returns compare.py's extended-class upgrade: 32 pixels, one epoch."""
  config = comparison.get_config()
  config.base = photos.get_config()
  config.base.data.image_size = 32
  for part in (config.base, config.base.old, config.starts.aligned):
    part.epochs = 1
    part.optimizer.drop_epochs = ()
  config.blocks = tuple(
    {**block, 'upgrades': ('extended_class',)}
    for block in config.blocks
    if 'extended_class' in block['upgrades']
  )
  config.seeds = (0,)
  return config
