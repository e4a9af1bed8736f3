"""Encoders of advbct_jax in plain PyTorch, to hold their exported weights.

Nothing but torch is needed here, so this file can be copied to where it is
used (`embed_image.py` is a use of it):

  encoder = build_encoder(card)
  encoder.load_state_dict(tensors)
  embeddings = encoder.eval()(images)  # [B, 3, H, W], normalised

The card says what the encoder is made of. Backbones have timm's names and
shapes (a ResNet's are torchvision's too), so that timm's own modules hold
their weights as well, but for the stem `small` and other widths than 1.
"""

from collections import OrderedDict
import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

PATCH = 16

# Blocks in each of the four stages, and whether they are bottlenecks.
RESNETS = {
  'resnet18': ((2, 2, 2, 2), False),
  'resnet34': ((3, 4, 6, 3), False),
  'resnet50': ((3, 4, 6, 3), True),
  'resnet101': ((3, 4, 23, 3), True),
}
# Channels, blocks and heads.
VITS = {'vit_small_patch16': (384, 12, 6), 'vit_base_patch16': (768, 12, 12)}

# Factors on channels and on depth, and the side of the images that strides are
# padded for.
EFFICIENTNET_LITES = {
  'efficientnet_lite0': (1.0, 1.0, 224),
  'efficientnet_lite1': (1.0, 1.1, 240),
  'efficientnet_lite2': (1.1, 1.2, 260),
  'efficientnet_lite3': (1.2, 1.4, 280),
  'efficientnet_lite4': (1.4, 1.8, 300),
}
# Channels, blocks, size, stride and expansion of each stage.
EFFICIENTNET_STAGES = (
  (16, 1, 3, 1, 1),
  (24, 2, 3, 2, 6),
  (40, 2, 5, 2, 6),
  (80, 3, 3, 2, 6),
  (112, 3, 5, 1, 6),
  (192, 4, 5, 2, 6),
  (320, 1, 3, 1, 6),
)


def convolution(
  inputs: int, outputs: int, size: int, stride: int = 1
) -> nn.Conv2d:
  """A convolution without bias that keeps the side at stride 1."""
  return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def pool(x: torch.Tensor, power: int) -> torch.Tensor:
  """The generalised mean over all places: [B, features] of [B, …, H, W]."""
  if power == 1:
    return x.mean((2, 3))
  return x.clamp(min=1e-6).pow(power).mean((2, 3)).pow(1 / power)


class ResidualBlock(nn.Module):
  """Two 3×3 convolutions, or 1×1, 3×3 and 1×1, beside a shortcut."""

  def __init__(
    self, inputs: int, channels: int, stride: int, bottleneck: bool
  ) -> None:
    super().__init__()
    outputs = 4 * channels if bottleneck else channels
    layers = [(channels, 3, stride), (channels, 3, 1)]
    if bottleneck:
      layers = [(channels, 1, 1), (channels, 3, stride), (outputs, 1, 1)]
    self.depth = len(layers)
    width = inputs
    for number, (features, size, step) in enumerate(layers, start=1):
      self.add_module(f'conv{number}', convolution(width, features, size, step))
      self.add_module(f'bn{number}', nn.BatchNorm2d(features))
      width = features
    self.downsample = nn.Sequential()  # empty, it gives what it gets
    if stride > 1 or inputs != outputs:
      self.downsample.append(convolution(inputs, outputs, 1, stride))
      self.downsample.append(nn.BatchNorm2d(outputs))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, inputs, H, W] to [B, outputs, H/stride, W/stride]."""
    y = x
    for number in range(1, self.depth + 1):
      y = self.get_submodule(f'conv{number}')(y)
      y = self.get_submodule(f'bn{number}')(y)
      if number < self.depth:
        y = functional.relu(y)
    return functional.relu(y + self.downsample(x))


class ResNet(nn.Module):
  """A ResNet up to its global pooling, `mean` or `gem`."""

  def __init__(
    self, architecture: str, width: float, stem: str, pooling: str
  ) -> None:
    super().__init__()
    stages, bottleneck = RESNETS[architecture]
    channels = [round(count * width) for count in (64, 128, 256, 512)]
    size = {'imagenet': 7, 'small': 3}[stem]
    self.conv1 = convolution(3, channels[0], size, stride=2)
    self.bn1 = nn.BatchNorm2d(channels[0])
    self.maxpool = (
      nn.MaxPool2d(3, 2, 1) if stem == 'imagenet' else nn.Identity()
    )
    self.features = channels[0]
    for stage, blocks in enumerate(stages):
      layer = nn.Sequential()
      for index in range(blocks):
        stride = 2 if stage and not index else 1
        layer.append(
          ResidualBlock(self.features, channels[stage], stride, bottleneck)
        )
        self.features = channels[stage] * (4 if bottleneck else 1)
      self.add_module(f'layer{stage + 1}', layer)
    self.power = {'mean': 1, 'gem': 3}[pooling]

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Maps [B, 3, H, W] to [B, features]."""
    x = self.maxpool(functional.relu(self.bn1(self.conv1(images))))
    for stage in range(1, 5):
      x = self.get_submodule(f'layer{stage}')(x)
    return pool(x, self.power)


class Attention(nn.Module):
  """Self-attention of several heads."""

  def __init__(self, channels: int, heads: int) -> None:
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(channels, 3 * channels)
    self.proj = nn.Linear(channels, channels)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, T, E] tokens to as many."""
    qkv = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
    attended = functional.scaled_dot_product_attention(*qkv)
    return self.proj(attended.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
  """Attention, then a perceptron, each on normalised tokens and added."""

  def __init__(self, channels: int, heads: int) -> None:
    super().__init__()
    self.norm1 = nn.LayerNorm(channels, eps=1e-6)
    self.attn = Attention(channels, heads)
    self.norm2 = nn.LayerNorm(channels, eps=1e-6)
    self.mlp = nn.Sequential(
      OrderedDict(
        fc1=nn.Linear(channels, 4 * channels),
        act=nn.GELU(),
        fc2=nn.Linear(4 * channels, channels),
      )
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, T, E] tokens to as many."""
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
  """A vision transformer up to its global pooling, `cls` or `mean`."""

  def __init__(
    self, architecture: str, width: float, image_size: int, pooling: str
  ) -> None:
    super().__init__()
    channels, depth, heads = VITS[architecture]
    self.features = channels = round(channels * width)
    tokens = 1 + (image_size // PATCH) ** 2
    self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
    self.pos_embed = nn.Parameter(torch.zeros(1, tokens, channels))
    self.patch_embed = nn.Sequential(
      OrderedDict(proj=nn.Conv2d(3, channels, PATCH, PATCH))
    )
    self.blocks = nn.Sequential(
      *(TransformerBlock(channels, heads) for _ in range(depth))
    )
    self.last = {'cls': 'norm', 'mean': 'fc_norm'}[pooling]
    self.add_module(self.last, nn.LayerNorm(channels, eps=1e-6))

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Maps [B, 3, H, W] to [B, features]."""
    x = self.patch_embed(images).flatten(2).transpose(1, 2)
    token = self.cls_token.expand(len(x), -1, -1)
    x = self.blocks(torch.cat([token, x], 1) + self.pos_embed)
    pooled = x[:, 0] if self.last == 'norm' else x[:, 1:].mean(1)
    return self.get_submodule(self.last)(pooled)


class Features(nn.Module):
  """Stored features brought to length √E, and what a perceptron adds."""

  def __init__(self, architecture: str, width: float, features: int) -> None:
    super().__init__()
    self.features = features
    self.perceptron = architecture == 'features_mlp'
    if self.perceptron:
      self.fc1 = nn.Linear(features, round(features * width))
      self.fc2 = nn.Linear(round(features * width), features)

  def forward(self, features: torch.Tensor) -> torch.Tensor:
    """Maps [B, E] to [B, E]."""
    x = functional.normalize(features) * self.features**0.5
    if not self.perceptron:
      return x
    return x + self.fc2(functional.relu(self.fc1(x)))


class PaddedConvolution(nn.Conv2d):
  """A convolution padded as TensorFlow pads images of a given side."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    size: int,
    stride: int,
    side: int,
    groups: int = 1,
  ) -> None:
    super().__init__(inputs, outputs, size, stride, bias=False, groups=groups)
    total = (math.ceil(side / stride) - 1) * stride + size - side
    self.both = (total // 2, total - total // 2)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, inputs, H, W] to [B, outputs, H/stride, W/stride]."""
    return super().forward(functional.pad(x, self.both * 2))


class InvertedResidual(nn.Module):
  """A depthwise convolution in a wider space, beside a shortcut if it fits."""

  def __init__(
    self,
    inputs: int,
    channels: int,
    size: int,
    stride: int,
    expansion: int,
    side: int,
  ) -> None:
    super().__init__()
    inside = inputs * expansion
    wide = expansion > 1
    layers: list[tuple[str, nn.Module]] = [
      (
        'conv_dw',
        PaddedConvolution(inside, inside, size, stride, side, inside),
      ),
      ('conv_pwl' if wide else 'conv_pw', convolution(inside, channels, 1)),
    ]
    if wide:
      layers.insert(0, ('conv_pw', convolution(inputs, inside, 1)))
    self.layers = [name for name, _ in layers]
    for number, (name, layer) in enumerate(layers, start=1):
      features = channels if number == len(layers) else inside
      self.add_module(name, layer)
      self.add_module(f'bn{number}', nn.BatchNorm2d(features, eps=1e-3))
    self.shortcut = stride == 1 and inputs == channels

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, inputs, H, W] to [B, channels, H/stride, W/stride]."""
    y = x
    for number, name in enumerate(self.layers, start=1):
      y = self.get_submodule(f'bn{number}')(self.get_submodule(name)(y))
      if number < len(self.layers):
        y = functional.relu6(y)
    return x + y if self.shortcut else y


class EfficientNetLite(nn.Module):
  """An EfficientNet-Lite up to its global pooling, `mean` or `gem`."""

  def __init__(self, architecture: str, width: float, pooling: str) -> None:
    super().__init__()
    wider, deeper, side = EFFICIENTNET_LITES[architecture]
    inputs, self.features = round(32 * width), round(1280 * width)
    self.conv_stem = PaddedConvolution(3, inputs, 3, 2, side)
    self.bn1 = nn.BatchNorm2d(inputs, eps=1e-3)
    side = math.ceil(side / 2)
    self.blocks = nn.Sequential()
    last = len(EFFICIENTNET_STAGES) - 1
    for number, stage in enumerate(EFFICIENTNET_STAGES):
      channels, blocks, size, stride, expansion = stage
      scaled = int(channels * wider + 4) // 8 * 8
      scaled = scaled if scaled >= 0.9 * channels * wider else scaled + 8
      outputs = round(scaled * width)
      if 0 < number < last:
        blocks = math.ceil(blocks * deeper)
      layers = nn.Sequential()
      for index in range(blocks):
        step = 1 if index else stride
        layers.append(
          InvertedResidual(inputs, outputs, size, step, expansion, side)
        )
        inputs, side = outputs, math.ceil(side / step)
      self.blocks.append(layers)
    self.conv_head = convolution(inputs, self.features, 1)
    self.bn2 = nn.BatchNorm2d(self.features, eps=1e-3)
    self.power = {'mean': 1, 'gem': 3}[pooling]

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Maps [B, 3, H, W] to [B, features]."""
    x = self.blocks(functional.relu6(self.bn1(self.conv_stem(images))))
    x = functional.relu6(self.bn2(self.conv_head(x)))
    return pool(x, self.power)


class Encoder(nn.Sequential):
  """A backbone, and the layer that makes its features an embedding.

  With the head `batch_norm` it has the published AdvBCT code's names, with or
  without a ReLU at the end, with `linear` OpenCompatible's.
  """

  def __init__(
    self,
    backbone: ResNet | VisionTransformer | EfficientNetLite | Features,
    dimension: int,
    head: str,
  ) -> None:
    projection = nn.Linear(backbone.features, dimension, bias=head == 'linear')
    layers: dict[str, dict[str, nn.Module]] = {
      'batch_norm': {
        'convnet': backbone,
        'projection_dim': projection,
        'bn': nn.BatchNorm1d(dimension),
      },
      'linear': {'backbone': backbone, 'fc_emb': projection},
    }
    layers['batch_norm_relu'] = {**layers['batch_norm'], 'relu': nn.ReLU()}
    super().__init__(OrderedDict(layers[head]))


def build_encoder(card: dict[str, Any]) -> nn.Module:
  """Builds the encoder that a card tells of, with weights yet to be loaded.

  Args:
    card: `architecture`, `width`, `stem` (of a ResNet), `pooling` (`cls` or
      `mean` of a ViT, `mean` or `gem` of others), `head`, `dimension` (but for
      the head `none`) and `image_size`; of a head on stored features their
      width, `features`.

  Returns:
    A module that maps [B, 3, H, W] normalised images, or [B, E] features as
    they are, to [B, D] embeddings; the
    backbone itself where the head is `none`.

  Raises:
    KeyError: if the card lacks a field, or has an unknown name in one.
  """
  name, width, pooling = card['architecture'], card['width'], card['pooling']
  backbone: ResNet | VisionTransformer | EfficientNetLite | Features
  if name in ('features', 'features_mlp'):
    backbone = Features(name, width, card['features'])
  elif name in VITS:
    backbone = VisionTransformer(name, width, card['image_size'], pooling)
  elif name in EFFICIENTNET_LITES:
    backbone = EfficientNetLite(name, width, pooling)
  else:
    backbone = ResNet(name, width, card['stem'], pooling)
  if card['head'] == 'none':
    return backbone
  return Encoder(backbone, card['dimension'], card['head'])
