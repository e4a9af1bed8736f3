"""A head on the vectors of a new encoder, tied to those of the old one."""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
  """Returns L2 from a start at the rotation, for vectors of 384 components."""
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
