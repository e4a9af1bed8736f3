"""EfficientNet-Lite 0 to 4, layer for layer those of TensorFlow.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural
networks", ICML 2019; the Lite ones have no squeeze-and-excitation, ReLU6 for
swish, and a stem and a head that are not scaled
(github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
Layers have timm's names. Without dropout and stochastic depth.
"""

from collections.abc import Callable, Sequence
from functools import partial
import math
from typing import Any, NamedTuple

from flax import linen as nn
import jax

from advbct_jax.errors import InputError
from advbct_jax.models.convolution import Convolution, DepthwiseConvolution
from advbct_jax.models.pooling import pool

_HEAD_CHANNELS = 1280


class Stage(NamedTuple):
  """Blocks one after the other, of which the first may have a stride.

  Attributes:
    channels: that each block gives.
    blocks: how many there are.
    size: side of the depthwise kernels.
    stride: of the first block.
    expansion: how many times wider than its input a block is inside.
  """

  channels: int
  blocks: int
  size: int
  stride: int
  expansion: int


_STEM = Stage(32, 1, 3, 2, 1)  # a plain convolution, never scaled
# Of EfficientNet-B0, which all others are scaled from.
_STAGES = (
  Stage(16, 1, 3, 1, 1),
  Stage(24, 2, 3, 2, 6),
  Stage(40, 2, 5, 2, 6),
  Stage(80, 3, 3, 2, 6),
  Stage(112, 3, 5, 1, 6),
  Stage(192, 4, 5, 2, 6),
  Stage(320, 1, 3, 1, 6),
)


class InvertedResidual(nn.Module):
  """A depthwise convolution in a wider space, beside a shortcut if it fits.

  Attributes:
    channels: that it gives.
    expansion: how many times wider than the input it is inside; 1 has no layer
      that widens.
    size: side of the depthwise kernel.
    stride: of the depthwise convolution.
    padding: of the depthwise convolution, before and after.
    norm: makes a BatchNorm.
    dtype: what to compute in; None takes that of the input.
  """

  channels: int
  expansion: int
  size: int
  stride: int
  padding: tuple[int, int]
  norm: Callable[..., nn.Module]
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/stride, W/stride, channels]."""
    pointwise = partial(Convolution, size=1, dtype=self.dtype)
    # timm numbers what is there, and calls what narrows conv_pwl only where
    # another layer widens.
    norms, narrow, y = iter(('bn1', 'bn2', 'bn3')), 'conv_pw', x
    if self.expansion > 1:
      y = pointwise(self.expansion * x.shape[-1], name='conv_pw')(y)
      y = nn.relu6(self.norm(name=next(norms))(y))
      narrow = 'conv_pwl'
    y = DepthwiseConvolution(
      self.size, self.stride, self.padding, self.dtype, name='conv_dw'
    )(y)
    y = nn.relu6(self.norm(name=next(norms))(y))
    y = pointwise(self.channels, name=narrow)(y)
    # No activation here: it would lose too much of so few channels.
    y = self.norm(name=next(norms))(y)
    return x + y if self.stride == 1 and x.shape == y.shape else y


class EfficientNetLite(nn.Module):
  """An EfficientNet-Lite up to its global pooling.

  Attributes:
    width_coefficient: factor on the channel counts of the stages.
    depth_coefficient: factor on the number of blocks of all stages but the
      first and the last.
    image_size: side in pixels of the images that it was published with. Its
      strided convolutions are padded as TensorFlow pads these, whatever size
      images have, as the PyTorch package that its weights come in has it; with
      the padding of another size they see another part of their input, and say
      something else.
    width: factor on all channel counts, after the coefficient; 1 is the
      published network.
    pooling: `mean` or `gem`; see `pool`.
    dtype: what to compute in; parameters and statistics stay float32.
    axis_name: the mapped axis over which BatchNorm shares its statistics.
    stages: before they are scaled.
  """

  width_coefficient: float
  depth_coefficient: float
  image_size: int
  width: float = 1.0
  pooling: str = 'mean'
  dtype: Any = None
  axis_name: str | None = None
  stages: Sequence[Stage] = _STAGES

  @property
  def stage_sizes(self) -> tuple[int, ...]:
    """The number of blocks in each stage."""
    first, *others, last = self.stages
    return (
      first.blocks,
      *(math.ceil(stage.blocks * self.depth_coefficient) for stage in others),
      last.blocks,
    )

  @property
  def published_channels(self) -> tuple[int, ...]:
    """The channels of stem, stages and head where `width` is 1."""
    scaled = (
      _round_to_8(stage.channels * self.width_coefficient)
      for stage in self.stages
    )
    return (_STEM.channels, *scaled, _HEAD_CHANNELS)

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """Maps images to features.

    Args:
      images: [B, H, W, 3] normalised images.
      train: whether BatchNorm takes the batch's statistics.

    Returns:
      [B, E] pooled features, 1280 where `width` is 1.

    Raises:
      InputError: if nothing would be left of an image after all strides.
    """
    paddings = self._paddings()
    self._require_large_enough(images, paddings)
    norm = partial(
      nn.BatchNorm,
      use_running_average=not train,
      # TensorFlow's is 0.99, for 350 epochs of ImageNet: in a short training
      # the running statistics would lag far behind the weights.
      momentum=0.9,
      epsilon=1e-3,
      dtype=self.dtype,
      axis_name=self.axis_name,
    )
    stem, *channels, head = (
      round(count * self.width) for count in self.published_channels
    )
    x = Convolution(
      stem, _STEM.size, _STEM.stride, paddings[0], self.dtype, name='conv_stem'
    )(images)
    x = nn.relu6(norm(name='bn1')(x))
    for number, (stage, blocks) in enumerate(
      zip(self.stages, self.stage_sizes, strict=True)
    ):
      for index in range(blocks):
        half = stage.size // 2
        x = InvertedResidual(
          channels[number],
          stage.expansion,
          stage.size,
          1 if index else stage.stride,
          (half, half) if index else paddings[number + 1],
          norm,
          self.dtype,
          name=f'blocks_{number}_{index}',
        )(x)
    x = Convolution(head, 1, dtype=self.dtype, name='conv_head')(x)
    return pool(nn.relu6(norm(name='bn2')(x)), self.pooling)

  def _strided(self) -> list[tuple[int, int]]:
    """Size and stride of the stem and of what begins each stage."""
    return [(stage.size, stage.stride) for stage in (_STEM, *self.stages)]

  def _paddings(self) -> list[tuple[int, int]]:
    """The padding of each of these."""
    side, paddings = self.image_size, []
    for size, stride in self._strided():
      outputs = math.ceil(side / stride)
      total = (outputs - 1) * stride + size - side
      # TensorFlow puts the odd one after.
      paddings.append((total // 2, total - total // 2))
      side = outputs
    return paddings

  def _require_large_enough(
    self, images: jax.Array, paddings: Sequence[tuple[int, int]]
  ) -> None:
    least = 1
    for (size, stride), padding in zip(
      reversed(self._strided()), reversed(paddings), strict=True
    ):
      least = (least - 1) * stride + size - sum(padding)
    _, height, width, _ = images.shape
    if min(height, width) < least:
      raise InputError(
        f'Images are {height}×{width}; wanted by an EfficientNet-Lite for '
        f'{self.image_size}×{self.image_size}: sides of {least} pixels or '
        'more. Set config.data.image_size to that.'
      )


def _round_to_8(channels: float) -> int:
  """The multiple of 8 that is nearest, or the next if it is far too small."""
  rounded = max(8, int(channels + 4) // 8 * 8)
  return rounded if rounded >= 0.9 * channels else rounded + 8


EFFICIENTNET_LITES: dict[str, Callable[..., EfficientNetLite]] = {
  'efficientnet_lite0': partial(EfficientNetLite, 1.0, 1.0, 224),
  'efficientnet_lite1': partial(EfficientNetLite, 1.0, 1.1, 240),
  'efficientnet_lite2': partial(EfficientNetLite, 1.1, 1.2, 260),
  'efficientnet_lite3': partial(EfficientNetLite, 1.2, 1.4, 280),
  'efficientnet_lite4': partial(EfficientNetLite, 1.4, 1.8, 300),
}
