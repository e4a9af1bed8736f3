"""ResNet-18, 34, 50 and 101, layer for layer those of timm and torchvision.

He et al., "Deep residual learning for image recognition", CVPR 2016. In
bottlenecks the stride sits on the 3×3 convolution ("ResNet v1.5"), as in both
libraries, so that their weights fit.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from flax import linen as nn
import jax

from advbct_jax.models.convolution import Convolution
from advbct_jax.models.pooling import pool

STEMS = ('imagenet', 'small')
_STAGE_CHANNELS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
  """Two 3×3 convolutions beside a shortcut."""

  channels: int
  stride: int
  convolution: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  expansion = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/stride, W/stride, channels]."""
    y = self.convolution(self.channels, 3, self.stride, name='conv1')(x)
    y = nn.relu(self.norm(name='bn1')(y))
    y = self.convolution(self.channels, 3, name='conv2')(y)
    y = self.norm(name='bn2')(y)
    return nn.relu(y + _shortcut(self, x, self.channels))


class BottleneckBlock(nn.Module):
  """A 3×3 convolution between two 1×1 ones, beside a shortcut."""

  channels: int
  stride: int
  convolution: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  expansion = 4

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, H/stride, W/stride, 4·channels]."""
    y = self.convolution(self.channels, 1, name='conv1')(x)
    y = nn.relu(self.norm(name='bn1')(y))
    y = self.convolution(self.channels, 3, self.stride, name='conv2')(y)
    y = nn.relu(self.norm(name='bn2')(y))
    y = self.convolution(4 * self.channels, 1, name='conv3')(y)
    y = self.norm(name='bn3')(y)
    return nn.relu(y + _shortcut(self, x, 4 * self.channels))


def _shortcut(
  block: BasicBlock | BottleneckBlock, x: jax.Array, channels: int
) -> jax.Array:
  """The input itself, projected where the block changes its shape."""
  if block.stride == 1 and x.shape[-1] == channels:
    return x
  x = block.convolution(channels, 1, block.stride, name='downsample_conv')(x)
  return block.norm(name='downsample_bn')(x)


class ResNet(nn.Module):
  """A ResNet up to its global pooling.

  Attributes:
    stage_sizes: blocks in each of the four stages.
    block: `BasicBlock` or `BottleneckBlock`.
    width: factor on all channel counts; 1 is the published network.
    stem: `imagenet` (7×7 with stride 2, then max pooling: stride 4 in all) or
      `small` (3×3 with stride 2, for images of some 32 to 64 pixels).
    pooling: `mean` or `gem`; see `pool`.
    dtype: what to compute in; parameters and statistics stay float32.
    axis_name: the mapped axis over which BatchNorm shares its statistics.
    convolution: makes a convolution of given channels, size and stride.
  """

  stage_sizes: tuple[int, ...]
  block: type[BasicBlock] | type[BottleneckBlock]
  width: float = 1.0
  stem: str = 'imagenet'
  pooling: str = 'mean'
  dtype: Any = None
  axis_name: str | None = None
  convolution: Callable[..., nn.Module] = Convolution

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """Maps [B, H, W, 3] normalised images to [B, E] pooled features."""
    convolution = partial(self.convolution, dtype=self.dtype)
    norm = partial(
      nn.BatchNorm,
      use_running_average=not train,
      momentum=0.9,
      epsilon=1e-5,
      dtype=self.dtype,
      axis_name=self.axis_name,
    )
    channels = [round(count * self.width) for count in _STAGE_CHANNELS]
    stem_size = {'imagenet': 7, 'small': 3}[self.stem]
    x = convolution(channels[0], stem_size, 2, name='conv1')(images)
    x = nn.relu(norm(name='bn1')(x))
    if self.stem == 'imagenet':
      # 'SAME' would pad an even side at its end alone; PyTorch pads both.
      x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for stage, blocks in enumerate(self.stage_sizes):
      for index in range(blocks):
        x = self.block(
          channels[stage],
          stride=2 if stage > 0 and index == 0 else 1,
          convolution=convolution,
          norm=norm,
          name=f'layer{stage + 1}_{index}',
        )(x)
    return pool(x, self.pooling)


RESNETS: dict[str, Callable[..., ResNet]] = {
  'resnet18': partial(ResNet, (2, 2, 2, 2), BasicBlock),
  'resnet34': partial(ResNet, (3, 4, 6, 3), BasicBlock),
  'resnet50': partial(ResNet, (3, 4, 6, 3), BottleneckBlock),
  'resnet101': partial(ResNet, (3, 4, 23, 3), BottleneckBlock),
}
