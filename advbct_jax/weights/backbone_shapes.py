"""What backbone some weights are of, told by their names and shapes."""

from collections.abc import Mapping, Sequence
import math
import re
from typing import Any

from advbct_jax.errors import InputError
from advbct_jax.models import efficientnet_lite, resnet, vit
from advbct_jax.models.backbones import known_architectures
from advbct_jax.weights.layouts import Layout

Shapes = Mapping[str, tuple[int, ...]]

_BLOCK = re.compile(r'^layer(\d+)\.(\d+)\.conv1\.weight$')
# What an EfficientNet has in every block, and what its Lite has in none; the
# package efficientnet-lite-pytorch has other names for it than timm.
_DEPTHWISE = re.compile(r'\.(conv_dw|_depthwise_conv)\.weight$')
_SQUEEZE = re.compile(r'\.(se\.|_se_)')
_STEMS = {7: 'imagenet', 3: 'small'}


def require_shape(
  shapes: Shapes, name: str, axes: int, source: str
) -> tuple[int, ...]:
  """Finds the shape of a tensor that must have so many axes.

  Args:
    shapes: of the tensors, by name.
    name: of the tensor.
    axes: how many it must have.
    source: what the weights are called in errors.

  Raises:
    InputError: if there is no such tensor, or it has another number of axes.
  """
  shape = shapes.get(name)
  if shape is None or len(shape) != axes:
    raise InputError(
      f'{source}: {name} is {"missing" if shape is None else shape}; wanted: '
      f'{axes} axes. The file is damaged, or its weights are of no '
      'architecture that is known here.'
    )
  return shape


def infer_resnet(shapes: Shapes, source: str) -> tuple[dict[str, Any], int]:
  """Finds what a ResNet is made of.

  Args:
    shapes: of the tensors of a backbone, by torchvision's names.
    source: what the weights are called in errors.

  Returns:
    Its fields of `config.model`, and the width E of its features.

  Raises:
    InputError: if it is none that is known here.
  """
  sizes = find_stage_sizes(shapes)
  block: type[resnet.BasicBlock] | type[resnet.BottleneckBlock] = (
    resnet.BottleneckBlock
    if 'layer1.0.conv3.weight' in shapes
    else resnet.BasicBlock
  )
  stem_channels, _, _, size = require_shape(shapes, 'conv1.weight', 4, source)
  names = [
    name
    for name, make in resnet.RESNETS.items()
    if (make().stage_sizes, make().block) == (sizes, block)
  ]
  if not names or size not in _STEMS:
    raise InputError(
      f'{source}: a ResNet with {"-".join(map(str, sizes))} blocks '
      f'({block.__name__}) and a first kernel of {size}×{size} pixels; wanted: '
      f'{", ".join(known_architectures())}, with a first kernel of 7×7 or 3×3.'
    )
  channels = [
    stem_channels,
    *(
      require_shape(shapes, f'layer{stage + 1}.0.conv1.weight', 4, source)[0]
      for stage in range(len(sizes))
    ),
  ]
  published = [64, *(64 * 2**stage for stage in range(len(sizes)))]
  width = _find_width(channels, published)
  if width is None:
    raise InputError(
      f'{source}: the stem and the stages have {", ".join(map(str, channels))} '
      f'channels; wanted: {", ".join(map(str, published))}, all times one '
      'factor. Wide ResNets and ResNeXts have no place here.'
    )
  fields = {
    'architecture': names[0],
    'width': width,
    'stem': _STEMS[size],
    'pooling': 'mean',
  }
  return fields, channels[-1] * block.expansion


def find_stage_sizes(shapes: Shapes) -> tuple[int, ...]:
  """Counts the blocks in each stage of a ResNet.

  Args:
    shapes: of the tensors of a backbone, by torchvision's names.
  """
  blocks = [
    tuple(map(int, match.groups()))
    for match in map(_BLOCK.match, shapes)
    if match
  ]
  stages = max((stage for stage, _ in blocks), default=0)
  return tuple(
    sum(stage == wanted for stage, _ in blocks)
    for wanted in range(1, stages + 1)
  )


def _find_width(
  channels: Sequence[int], published: Sequence[int]
) -> float | None:
  """The factor that makes these channels of the published ones."""
  # Counts of channels are rounded, so that each gives the factor only nearly,
  # and not every one's makes all the others again.
  for have, base in zip(channels, published, strict=True):
    width = have / base
    if [round(count * width) for count in published] == list(channels):
      return width
  return None


def infer_efficientnet_lite(
  shapes: Shapes, layout: Layout, source: str
) -> tuple[dict[str, Any], int]:
  """Finds which EfficientNet-Lite some weights are of.

  Args:
    shapes: of the tensors, by name, without wrappers.
    layout: whose names they are.
    source: what the weights are called in errors.

  Returns:
    Its fields of `config.model`, and the width E of its features.

  Raises:
    InputError: if they are of none, or of an EfficientNet that is no Lite.
  """
  inside = [name for name in shapes if name.startswith(layout.backbone)]
  # The plain ones have the same blocks and channels, and these beside.
  if others := [name for name in inside if _SQUEEZE.search(name)]:
    raise InputError(
      f'{source}: {others[0]} is of squeeze-and-excitation, which an '
      'EfficientNet-Lite has none of; wanted: '
      f'{", ".join(known_architectures())}.'
    )
  # Blocks are told by a layer that every one has.
  blocks = {name for name in inside if _DEPTHWISE.search(name)}
  tried = []
  for architecture, make in efficientnet_lite.EFFICIENTNET_LITES.items():
    module = make()
    sizes = module.stage_sizes
    places = [(s, i) for s, count in enumerate(sizes) for i in range(count)]
    names = [layout.kernel_name(f'blocks_{s}_{i}/conv_dw') for s, i in places]
    # Sorted, for a layout that numbers blocks throughout may call two blocks of
    # another architecture by one name.
    if sorted(blocks) != sorted(names):
      continue
    ends = [f'blocks_{s}_0/conv_pw{"l" * (s > 0)}' for s in range(len(sizes))]
    channels = [
      require_shape(shapes, layout.kernel_name(layer), 4, source)[0]
      for layer in ('conv_stem', *ends, 'conv_head')
    ]
    width = _find_width(channels, module.published_channels)
    if width is not None:
      fields = {
        'architecture': architecture,
        'width': width,
        'stem': 'imagenet',
        'pooling': 'mean',
      }
      return fields, channels[-1]
    tried.append(
      f'{", ".join(map(str, module.published_channels))} ({architecture})'
    )
  found = f' and {", ".join(map(str, channels))} channels' if tried else ''
  wanted = f', with {" or ".join(tried)}, all times one factor' if tried else ''
  raise InputError(
    f'{source}: an EfficientNet of {len(blocks)} blocks{found}; wanted: '
    f'{", ".join(known_architectures())}{wanted}.'
  )


def infer_vit(shapes: Shapes, source: str) -> tuple[dict[str, Any], int]:
  """Finds what a vision transformer is made of.

  Args:
    shapes: of the tensors of a backbone, by timm's names.
    source: what the weights are called in errors.

  Returns:
    Its fields of `config.model`, and the width E of its features.

  Raises:
    InputError: if it is none that is known here.
  """
  _, positions, channels = require_shape(shapes, 'pos_embed', 3, source)
  patch = require_shape(shapes, 'patch_embed.proj.weight', 4, source)
  depth = len(
    {name.split('.')[1] for name in shapes if name.startswith('blocks.')}
  )
  names = [
    name
    for name, make in vit.VITS.items()
    if (make().depth, make().channels) == (depth, channels)
  ]
  square = math.isqrt(max(positions - 1, 0)) ** 2 == positions - 1
  if not names or patch[2:] != (vit.PATCH, vit.PATCH) or not square:
    raise InputError(
      f'{source}: a vision transformer of {depth} blocks and {channels} '
      f'channels, with patches of {"×".join(map(str, patch[2:]))} and '
      f'{positions} position embeddings; wanted: '
      f'{", ".join(known_architectures())}, with patches of '
      f'{vit.PATCH}×{vit.PATCH}, a class token and square images.'
    )
  fields = {
    'architecture': names[0],
    'width': 1.0,
    'stem': 'imagenet',
    # timm has the last norm after the pooling, where that is a mean, and calls
    # it so.
    'pooling': 'mean' if 'fc_norm.weight' in shapes else 'cls',
  }
  return fields, channels
