"""A head on the vectors of a new encoder, tied to those of the old one.

  python train.py --config=configs/vectors.py --config.data.root=FOLDER

FOLDER holds `old/` and `new/`, each with stores or files of vectors called
train, index and test, and the tables of GLDv2's layout (docs/vectors.md).

Measured by this command with --config.seed=0, 1 and 2 (mAP@100 of all queries,
old / self / cross, mean ± standard deviation, classes unseen in training): two
encoders of short texts 55.2 / 65.3 ± 0.0 / 55.0 ± 0.0, two of photographs
16.7 / 22.7 ± 0.0 / 14.7 ± 0.0. The rotation that it starts from has 65.4 / 55.2
and 22.9 / 15.1 (one epoch at a rate of 1e-8): nothing that was tried on these
two sets crossed better, and the training stays near it. At a rate of 1e-3 for
30 epochs self and cross fall to 62.5 / 52.7 and 20.3 / 13.2, as they do with a
weight of 100 (1e-4, 3 epochs: 64.8 / 52.8 and 21.6 / 12.4); each one seed.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
  """Returns L2 from a start at the rotation, at a low rate."""
  config = base.get_config()
  config.method = 'l2'
  config.data.name = 'vectors'
  config.data.features = config.data.get_ref('root') + '/new'
  config.old.path = config.data.get_ref('root') + '/old'
  config.data.workers = 0
  config.evaluation.data = ('vectors',)
  config.evaluation.batch_size = 1024
  for model in (config.model, config.old.model):
    model.architecture = 'features'
    model.head = 'linear'
    model.dimension = 0  # that of what it is tied to
    model.dtype = 'float32'
  config.model.init_weights = 'rotation'
  config.epochs = config.old.epochs = 3
  for optimizer in (config.optimizer, config.old.optimizer):
    optimizer.name = 'adamw'
    optimizer.learning_rate = 1e-5
    optimizer.weight_decay = 0.0
    optimizer.schedule = 'cosine'
    optimizer.drop_epochs = (2,)
  config.checkpoint.every_steps = 1000
  return config
