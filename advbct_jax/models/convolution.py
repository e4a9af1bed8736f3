"""Convolutions that are fast on a CPU too."""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

# PyTorch's ResNets draw their kernels from this (He et al., 2015, fan-out).
he_normal_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
# The same of a kernel [size, size, 1, C], where each output channel sees one
# input: what initialisers count as inputs is then what fans out of one.
_he_normal_depthwise = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')

# Below this side patches win on a CPU at stride 1 too.
_SMALL_SIDE = 8


class Convolution(nn.Module):
  """A square convolution without bias, padded as PyTorch pads by hand.

  On a CPU XLA's convolutions are slow for kernels of one pixel, and so are
  their gradients where images are small or the stride is 2; a matrix product
  over the patches is slow elsewhere. Each layer takes the faster. Both ways
  have the same parameter and give the same numbers to rounding;
  `benchmarks/convolution_speed.py` compares them.

  Attributes:
    features: output channels.
    size: side of the kernel.
    stride: step between outputs, in both directions.
    padding: rows and columns of zeros before and after; None for half of the
      kernel on either side.
    dtype: what to compute in; None takes that of the input.
    as_patches: whether to multiply patches; None decides by what is faster.
  """

  features: int
  size: int = 3
  stride: int = 1
  padding: tuple[int, int] | None = None
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
      # At size 1 there is nothing to copy: the patches are the image.
      faster = self.size == 1 or self.stride > 1 or x.shape[1] < _SMALL_SIDE
      as_patches = faster and jax.default_backend() == 'cpu'
    padding = self.padding or (self.size // 2, self.size // 2)
    if as_patches:
      # The receptive field of each output lies side by side in its channels.
      patches = jnp.concatenate(
        _shifted(x, self.size, self.stride, padding), axis=-1
      )
      return patches @ kernel.reshape(-1, self.features)
    return _convolve(x, kernel, self.stride, padding)


class DepthwiseConvolution(nn.Module):
  """A square convolution of each channel with a kernel of its own, no bias.

  XLA's are some ten times slower on a CPU than they need be, and their
  gradients more. There each element of the kernel is multiplied with the image
  shifted to it, and XLA makes one loop of all these products. Both ways have
  the same parameter and give the same numbers to rounding.

  Attributes:
    size: side of the kernel.
    stride: step between outputs, in both directions.
    padding: rows and columns of zeros before and after.
    dtype: what to compute in; None takes that of the input.
    as_shifts: whether to multiply shifted images; None decides by what is
      faster.
  """

  size: int
  stride: int
  padding: tuple[int, int]
  dtype: Any = None
  as_shifts: bool | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Convolves [B, H, W, C] to [B, H/stride, W/stride, C]."""
    kernel = self.param(
      'kernel', _he_normal_depthwise, (self.size, self.size, 1, x.shape[-1])
    )
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    as_shifts = self.as_shifts
    if as_shifts is None:
      as_shifts = jax.default_backend() == 'cpu'
    if as_shifts:
      shifted = _shifted(x, self.size, self.stride, self.padding)
      elements = kernel.reshape(-1, x.shape[-1])
      products = map(jnp.multiply, shifted, elements)
      return functools.reduce(jnp.add, products)
    return _convolve(x, kernel, self.stride, self.padding, groups=x.shape[-1])


def _convolve(
  x: jax.Array,
  kernel: jax.Array,
  stride: int,
  padding: tuple[int, int],
  groups: int = 1,
) -> jax.Array:
  """Convolves as XLA does it."""
  # Not 'SAME', which at stride 2 pads an even side at its end alone.
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [padding] * 2,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )


def _shifted(
  x: jax.Array, size: int, stride: int, padding: tuple[int, int]
) -> list[jax.Array]:
  """What each element of a kernel, row by row, sees for all of the outputs."""
  x = jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
  # From the first place of an element to one past its last.
  height, width = (
    (side - size) // stride * stride + 1 for side in x.shape[1:3]
  )
  return [
    x[:, row : row + height : stride, column : column + width : stride]
    for row in range(size)
    for column in range(size)
  ]
