"""An encoder and images so small that a test can embed them."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from advbct_jax.data.augmentation import normalize
from advbct_jax.data.images import ImageSet
from advbct_jax.embeddings.extract import FrozenEncoder
from advbct_jax.models.encoder import Encoder
from advbct_jax.models.resnet import BasicBlock, ResNet

SIZE = 16


class ImagesInMemory(list):
  """Encoded images that know where they lie, and count how often each is read.

  Attributes:
    reads: which images were read, in order.
  """

  def __init__(self, encoded):
    super().__init__(encoded)
    self.reads = []

  def __getitem__(self, index):
    self.reads.append(int(index))
    return super().__getitem__(index)

  def where(self, index):
    return f'memory/{index}.png'


def pixels(count):
  """[count, SIZE, SIZE, 3] uint8, different for every image."""
  random = np.random.default_rng(0)
  return random.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def image_set(count, name='tiny', boxes=None):
  """A set of PNGs with the pixels of `pixels`."""
  encoded = []
  for image in pixels(count):
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'PNG')
    encoded.append(file.getvalue())
  ids = [f'{name}{index}' for index in range(count)]
  return ImageSet(name, ids, ImagesInMemory(encoded), boxes=boxes)


def tiny_encoder(seed=0, dtype=None):
  """An encoder of one block to 8 dimensions."""
  backbone = ResNet((1,), BasicBlock, 1 / 16, 'small', dtype=dtype)
  module = Encoder(backbone, dimension=8)
  variables = module.init(
    jax.random.key(seed), jnp.zeros((1, SIZE, SIZE, 3)), train=False
  )
  return FrozenEncoder('tiny', module, variables, SIZE)


def embed_directly(encoder, count):
  """What the encoder says about `image_set(count)`, all in one batch."""
  return encoder.module.apply(
    encoder.variables,
    normalize(jnp.asarray(pixels(count)), 'imagenet'),
    train=False,
  )
