"""The fields of every experiment, with the paper's settings.

Other configs import this one and change what they need.
"""

import ml_collections
from ml_collections import config_dict

from advbct_jax.data.decoding import MAX_PIXELS
from advbct_jax.methods import METHODS, method_options


def get_config() -> ml_collections.ConfigDict:
  """Returns AdvBCT as published: ResNet-18, 224 pixels, 30 epochs."""
  config = config_dict.ConfigDict()
  config.seed = 0

  # How the new encoder is tied to the old one: a key of
  # advbct_jax.methods.METHODS. Its options have its name, and its class says
  # what they mean.
  config.method = 'advbct'
  for name in METHODS:
    config[name] = config_dict.ConfigDict(method_options(name))

  # The encoder to train.
  config.model = config_dict.ConfigDict()
  config.model.architecture = 'resnet18'  # of RESNETS, VITS or FEATURES
  config.model.width = 1.0  # factor on all channel counts
  config.model.stem = 'imagenet'  # or small, for images of 32 to 64 pixels
  config.model.pooling = 'auto'  # a ResNet's mean or gem, a ViT's cls or mean
  config.model.head = 'batch_norm'  # or linear, none: the backbone's features
  config.model.dimension = 256
  # Where the old embedding is narrower, its width: only so many of the first
  # components are then tied to it and searched against it. 0: all of them.
  config.model.compatible_dimension = 0
  config.model.dtype = 'auto'  # trains in bfloat16 on GPU and TPU
  # Where the weights start: '' for fresh ones, a file of PyTorch weights or
  # hf://OWNER/REPO/FILE (a whole encoder, or its backbone alone), 'old' for
  # the old encoder's own (of the same architecture), or 'aligned' for those of
  # config.aligned, rotated onto the old embeddings. Fresh ones are drawn
  # by the seed, so an old and a new encoder of the same architecture then start
  # from the same weights, as they do in the paper; but not in extended_data,
  # where their classifiers would be the same too, which alone ties the two.
  # A head on stored features may also start as no more than 'identity', the
  # features themselves, or 'rotation', the features turned onto the old
  # embeddings.
  config.model.init_weights = ''

  config.data = config_dict.ConfigDict()
  config.data.name = 'gldv2'
  config.data.root = ''  # a folder in GLDv2's layout
  # Arguments of drawn_landmarks.data_set.draw_landmarks, which then draws the
  # root if it is not there yet; empty for data that exists.
  config.data.drawing = config_dict.ConfigDict()
  # What a head is trained on in the place of images, where the architecture is
  # one of FEATURES: a store of the new encoder's vectors, a folder of stores or
  # of files of vectors. Nothing is then asked of images, unless it is a file of
  # weights, by which they are embedded first, at image_size.
  config.data.features = ''
  config.data.part = 'all'  # or old: only what the old model knows
  config.data.split = config_dict.ConfigDict()
  config.data.split.kind = 'extended_class'  # or extended_data
  config.data.split.old_fraction = 0.3
  config.data.split.new_fraction = 1.0  # what the new encoder is trained on
  config.data.split.seed = 666
  config.data.image_size = 224
  config.data.augmentation = 'none'  # or crop_flip, affine
  # Or half, timm's usual for ViTs, or efficientnet_lite.
  config.data.normalization = 'imagenet'
  config.data.resampling = 'bilinear'  # or bicubic: how images are squashed
  config.data.workers = 8  # processes that decode; 0 takes threads
  config.data.memory_mib = 2048  # sets that decode to less are kept in memory
  # Images of more are refused by their header; by default those that take more
  # than 256 MiB as RGB.
  config.data.max_pixels = MAX_PIXELS
  # JSON, pickles and lines of tables of more are refused; 0: of more than each
  # kind has in honest files.
  config.data.max_header_bytes = 0
  # The table of `advbct prepare check`, '' for none, and what becomes of the
  # problems of training images that it tells: 'stop' refuses to train, 'skip'
  # leaves these images out (of the same images of a class the first stays).
  config.data.checked = ''
  config.data.on_problem = 'stop'
  # Which problems count; near_duplicate and near_shared are further ones.
  config.data.problems = ('unreadable', 'too_small', 'duplicate', 'shared')

  config.batch_size = 256  # over all devices
  # Whether the classifier's weights, what a method learns of each class and the
  # optimiser's state of both are cut over the devices, for very many classes.
  config.shard_classes = False
  config.epochs = 30
  config.optimizer = config_dict.ConfigDict()
  config.optimizer.name = 'sgd'  # or adamw
  config.optimizer.learning_rate = 0.1
  config.optimizer.momentum = 0.9
  config.optimizer.weight_decay = 5e-4
  config.optimizer.schedule = 'drops'  # or cosine, down to 0
  config.optimizer.warmup_epochs = 0.0  # while the rate rises to its height
  config.optimizer.drop_epochs = (5, 10, 20)
  config.optimizer.drop_factor = 0.1

  # The encoder to stay compatible with. `path` is its workdir, a store of its
  # embeddings of the training images, a folder of stores, or a file of weights,
  # by which the images are embedded first; where it is empty the old encoder is
  # trained first, in WORKDIR/old, from the fields below and all others of this
  # config.
  config.old = config_dict.ConfigDict()
  config.old.path = ''
  # The side in pixels of the images that the old encoder is given where `path`
  # is a file of weights; 0 for data.image_size.
  config.old.image_size = 0
  # Where `path` names vectors alone, the workdir of a run whose weights an
  # init_weights of 'old' starts from.
  config.old.weights = ''
  # What trains it: independent, or d_simplex, whose options it then shares.
  config.old.method = 'independent'
  config.old.epochs = 30
  config.old.model = config.model.copy_and_resolve_references()
  config.old.optimizer = config.optimizer.copy_and_resolve_references()

  # The workdir of the same model trained with the method `independent`, which
  # an aligned start is made from.
  config.aligned = config_dict.ConfigDict()
  config.aligned.path = ''

  # What further encoders say of the training images, for methods that read it:
  # the workdir of a run, a store, or a folder of stores.
  config.stores = config_dict.ConfigDict()
  for method in METHODS.values():
    for name in method.stores:
      config.stores[name] = ''

  config.checkpoint = config_dict.ConfigDict()
  config.checkpoint.every_steps = 2000
  config.checkpoint.keep = 3
  config.checkpoint.keep_every_steps = 0  # 0 keeps none for good

  config.log = config_dict.ConfigDict()
  config.log.every_steps = 50
  config.log.tensorboard = False

  # What the trained encoder is judged on: NAME (under data.root) or NAME:ROOT.
  config.evaluation = config_dict.ConfigDict()
  config.evaluation.data = ('gldv2',)
  config.evaluation.crop_queries = True  # False is the paper's protocol
  config.evaluation.batch_size = 256
  # What encoders embed in: float32, or bfloat16, which is faster on GPU and TPU
  # and gives slightly other vectors. Stores of the two are not mixed.
  config.evaluation.dtype = 'float32'
  # After how many epochs a part of each data set is judged while the encoder
  # trains, which changes nothing of the training; 0 for never. The part has so
  # many queries, and some ten times as many images, among them all that are to
  # be found.
  config.evaluation.every_epochs = 0
  config.evaluation.part_queries = 100
  return config
