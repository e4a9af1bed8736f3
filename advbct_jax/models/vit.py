"""Vision transformers, layer for layer timm's.

Dosovitskiy et al., "An image is worth 16×16 words: transformers for image
recognition at scale", ICLR 2021. Without dropout and stochastic depth.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from advbct_jax.errors import InputError

POOLINGS = ('cls', 'mean')
PATCH = 16

# timm's initialisers. Its truncation at ±2 is 100 standard deviations away.
_normal = nn.initializers.normal(0.02)
# PyTorch's own for a convolution, which timm leaves: U(−1/√fan_in, 1/√fan_in).
_uniform_fan_in = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


class PatchEmbedding(nn.Module):
  """A convolution whose kernel and stride are the patch.

  Attributes:
    channels: the width E of a token.
    dtype: what to compute in; None takes that of the input.
  """

  channels: int
  dtype: Any = None

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, P, E], a token for each patch, row by row.

    Raises:
      InputError: if the sides of the images are no multiples of the patch's.
    """
    batch, height, width, inputs = images.shape
    if height % PATCH or width % PATCH:
      raise InputError(
        f'Images are {height}×{width}; wanted by a vision transformer: sides '
        f'that are multiples of {PATCH}. Set config.data.image_size to one, '
        f'such as {max(PATCH, round(height / PATCH) * PATCH)}.'
      )
    kernel = self.param(
      'kernel', _uniform_fan_in, (PATCH, PATCH, inputs, self.channels)
    )
    bound = (PATCH * PATCH * inputs) ** -0.5
    bias = self.param(
      'bias',
      partial(jax.random.uniform, minval=-bound, maxval=bound),
      (self.channels,),
    )
    x, kernel, bias = nn.dtypes.promote_dtype(
      images, kernel, bias, dtype=self.dtype
    )
    # Patches don't overlap, so that one matrix product does what a convolution
    # would, and without a strided one's slow gradient (see `Convolution`).
    rows, columns = height // PATCH, width // PATCH
    x = x.reshape(batch, rows, PATCH, columns, PATCH, inputs).swapaxes(2, 3)
    patches = x.reshape(batch, rows * columns, PATCH * PATCH * inputs)
    return patches @ kernel.reshape(-1, self.channels) + bias


class Block(nn.Module):
  """Self-attention, then a perceptron, each on normalised tokens and added.

  Attributes:
    heads: of the attention.
    dense: makes a linear layer of given width.
    norm: makes a LayerNorm.
  """

  heads: int
  dense: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, T, E] tokens to as many."""
    batch, tokens, channels = x.shape
    qkv = self.dense(3 * channels, name='qkv')(self.norm(name='norm1')(x))
    qkv = qkv.reshape(batch, tokens, 3, self.heads, channels // self.heads)
    # Its softmax is in float32, whatever the tokens are in.
    attended = jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0))
    x = x + self.dense(channels, name='proj')(attended.reshape(x.shape))
    y = self.dense(4 * channels, name='fc1')(self.norm(name='norm2')(x))
    # PyTorch's is exact; Flax's default by tanh would drift from its weights.
    y = nn.gelu(y, approximate=False)
    return x + self.dense(channels, name='fc2')(y)


class VisionTransformer(nn.Module):
  """A vision transformer with patches of 16×16, up to its global pooling.

  Attributes:
    depth: the number of blocks.
    heads: of the attention in each of them.
    channels: the width of a token where `width` is 1.
    width: factor on it; the number of heads stays.
    pooling: `cls`, the class token after the last LayerNorm; or `mean`, the
      mean of the other tokens before it, timm's `global_pool='avg'`.
    dtype: what to compute in; parameters stay float32.
  """

  depth: int
  heads: int
  channels: int
  width: float = 1.0
  pooling: str = 'cls'
  dtype: Any = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """Pools images to features.

    Args:
      images: [B, H, W, 3] normalised images, of the size of those that the
        parameters were drawn with: each patch has its own position embedding.
      train: of no effect; every backbone has it.

    Returns:
      [B, E] features.

    Raises:
      InputError: if H or W is no multiple of 16, or if the width of a token is
        none of the number of heads.
    """
    channels = self._scaled_channels()
    dense = partial(nn.Dense, dtype=self.dtype, kernel_init=_normal)
    # One pass over the variance would cancel where tokens are far from 0.
    norm = partial(
      nn.LayerNorm, epsilon=1e-6, dtype=self.dtype, use_fast_variance=False
    )
    x = PatchEmbedding(channels, self.dtype, name='patch_embed')(images)
    batch, patches, _ = x.shape
    token = self.param(
      'cls_token', nn.initializers.normal(1e-6), (1, 1, channels)
    )
    position = self.param('pos_embed', _normal, (1, 1 + patches, channels))
    x, token, position = nn.dtypes.promote_dtype(
      x, token, position, dtype=self.dtype
    )
    token = jnp.broadcast_to(token, (batch, 1, channels))
    x = jnp.concatenate([token, x], axis=1) + position
    for index in range(self.depth):
      x = Block(self.heads, dense, norm, name=f'blocks_{index}')(x)
    if self.pooling == 'mean':
      return norm(name='fc_norm')(x[:, 1:].mean(axis=1))
    # Normalising token by token, no other token needs it.
    return norm(name='norm')(x[:, 0])

  def _scaled_channels(self) -> int:
    channels = round(self.channels * self.width)
    if not channels or channels % self.heads:
      raise InputError(
        f'config.model.width is {self.width}, which makes tokens of {channels} '
        f'channels; wanted: a multiple of the {self.heads} heads. Set it to a '
        f'multiple of {self.heads}/{self.channels}.'
      )
    return channels


VITS: dict[str, Callable[..., VisionTransformer]] = {
  'vit_small_patch16': partial(
    VisionTransformer, depth=12, heads=6, channels=384
  ),
  'vit_base_patch16': partial(
    VisionTransformer, depth=12, heads=12, channels=768
  ),
}
