"""Convolution that is fast on a CPU too."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

# PyTorch's ResNets draw their kernels from this (He et al., 2015, fan-out).
he_normal_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')

# Below this side patches win on a CPU at stride 1 too.
_SMALL_SIDE = 8


class Convolution(nn.Module):
  """A square convolution without bias, padded as PyTorch pads by hand.

  On a CPU the gradients of XLA's convolutions are slow where images are small
  or the stride is 2, and a matrix product over the patches is slow elsewhere;
  each layer takes the faster. Both ways have the same parameter and give the
  same numbers to rounding;
  `benchmarks/convolution_speed.py` compares them.

  Attributes:
    features: output channels.
    size: side of the kernel.
    stride: step between outputs, in both directions.
    dtype: what to compute in; None takes that of the input.
    as_patches: whether to multiply patches; None decides by what is faster.
  """

  features: int
  size: int = 3
  stride: int = 1
  dtype: Any = None
  as_patches: bool | None = None
  kernel_init: Callable[..., jax.Array] = he_normal_fan_out

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Convolves [B, H, W, C] to [B, H/stride, W/stride, features]."""
    kernel = self.param(
      'kernel',
      self.kernel_init,
      (self.size, self.size, x.shape[-1], self.features),
    )
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    as_patches = self.as_patches
    if as_patches is None:
      small = self.stride > 1 or x.shape[1] < _SMALL_SIDE
      as_patches = small and jax.default_backend() == 'cpu'
    if as_patches:
      patches = _patches(x, self.size, self.stride)
      return patches @ kernel.reshape(-1, self.features)
    # Not 'SAME', which at stride 2 pads an even side at its end alone.
    padding = self.size // 2
    return lax.conv_general_dilated(
      x,
      kernel,
      (self.stride, self.stride),
      [(padding, padding)] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def _patches(x: jax.Array, size: int, stride: int) -> jax.Array:
  """Lays the receptive field of each output side by side in its channels."""
  _, height, width, _ = x.shape
  padding = size // 2
  x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  return jnp.concatenate(
    [
      x[:, row : row + height : stride, column : column + width : stride]
      for row in range(size)
      for column in range(size)
    ],
    axis=-1,
  )
