"""Which encoder some weights are of, found out from their names and shapes."""

from collections.abc import Mapping, Sequence
import itertools
import math
import re
from typing import Any

from flax import traverse_util
import jax
import numpy as np

from advbct_jax.errors import InputError
from advbct_jax.models import efficientnet_lite, resnet, vit
from advbct_jax.models.backbones import known_architectures
from advbct_jax.models.discriminator import Discriminator
from advbct_jax.weights.layouts import OPENCOMPATIBLE, Layout

Shapes = Mapping[str, tuple[int, ...]]

_BLOCK = re.compile(r'^layer(\d+)\.(\d+)\.conv1\.weight$')
_END_OF_BLOCK = re.compile(r'^layer(\d+)\.0\.conv(\d)\.weight$')
# What an EfficientNet has in every block, and what its Lite has in none; the
# package efficientnet-lite-pytorch has other names for it than timm.
_DEPTHWISE = re.compile(r'\.(conv_dw|_depthwise_conv)\.weight$')
_SQUEEZE = re.compile(r'\.(se\.|_se_)')
_STEMS = {7: 'imagenet', 3: 'small'}


def infer_model(shapes: Shapes, layout: Layout, source: str) -> dict[str, Any]:
  """Finds the fields of `config.model`.

  Args:
    shapes: of the tensors, by name, without wrappers.
    layout: whose names they are.
    source: what the weights are called in errors.

  Returns:
    `architecture`, `width`, `stem`, `pooling`, `head` and `dimension`.

  Raises:
    InputError: if the weights are of no architecture that is known here.
  """
  backbone = {
    name.removeprefix(layout.backbone): shape
    for name, shape in shapes.items()
    if name.startswith(layout.backbone)
  }
  if 'pos_embed' in backbone and 'patch_embed.proj.weight' in backbone:
    fields, features = _infer_vit(backbone, source)
  elif _name(layout, 'conv_stem') in shapes:
    fields, features = _infer_efficientnet_lite(shapes, layout, source)
  elif 'conv1.weight' in backbone and _stage_sizes(backbone):
    fields, features = _infer_resnet(backbone, source)
    if layout.name == OPENCOMPATIBLE.name:
      # Its code pools so, by a power that is no tensor to be found here.
      fields['pooling'] = 'gem'
  else:
    raise InputError(
      f'{source}: the weights are of no architecture that is known here; their '
      f'first names are {", ".join(itertools.islice(shapes, 5))}. Wanted: '
      f'{_known()}, as timm or torchvision names their layers.'
    )
  return fields | _infer_head(shapes, layout, features, source)


def describe_assumptions(model: Mapping[str, Any]) -> str:
  """Says what no names and shapes tell, and what was taken instead.

  Args:
    model: what `infer_model` found.

  Returns:
    A sentence; empty where there is nothing to say.
  """
  if model['architecture'] in vit.VITS:
    heads = vit.VITS[model['architecture']]().heads
    return (
      f'its attention is taken to have {heads} heads, as timm has, which '
      'weights cannot tell; one with others embeds otherwise'
    )
  if model['architecture'] in efficientnet_lite.EFFICIENTNET_LITES:
    make = efficientnet_lite.EFFICIENTNET_LITES[model['architecture']]
    size = make().image_size
    return (
      f'its strides are taken to be padded as TensorFlow pads images of '
      f'{size}×{size}, and its BatchNorms to have an epsilon of 0.001, as in '
      'the package efficientnet-lite-pytorch and in what timm calls '
      f'tf_{model["architecture"]}, which weights cannot tell; one of other '
      "padding, as timm's efficientnet_lite0 without tf_, embeds otherwise"
    )
  if model['stem'] == 'small':
    return (
      'the first convolution, 3×3, is taken to have stride 2 and no pooling '
      'after it, which weights cannot tell; one with stride 1, as '
      "CIFAR's ResNets have, embeds otherwise"
    )
  return ''


def find_image_size(shapes: Shapes, layout: Layout, source: str) -> int | None:
  """The side in pixels that weights are bound to, None where it is free.

  Args:
    shapes: of the tensors, by name, without wrappers.
    layout: whose names they are.
    source: what the weights are called in errors.

  Raises:
    InputError: if the position embeddings have another number of axes.
  """
  name = f'{layout.backbone}pos_embed'
  if name not in shapes:
    return None
  positions = _shape(shapes, name, 3, source)[1]
  return vit.PATCH * math.isqrt(max(positions - 1, 0))


def find_features(shapes: Shapes, layout: Layout) -> int | None:
  """The width E of a backbone's features, None where no backbone is known.

  Args:
    shapes: of the tensors, by name, without wrappers.
    layout: whose names they are.
  """
  norm = shapes.get(f'{layout.backbone}norm.weight') or shapes.get(
    f'{layout.backbone}fc_norm.weight'
  )
  if norm and f'{layout.backbone}pos_embed' in shapes:
    return norm[0]
  if _name(layout, 'conv_stem') in shapes:
    head = shapes.get(_name(layout, 'conv_head'))
    return head[0] if head else None
  # The convolution that ends the last stage's first block is as wide as all
  # that follows.
  ends = [
    (int(match[1]), int(match[2]), shape[0])
    for name, shape in shapes.items()
    if shape
    and name.startswith(layout.backbone)
    and (match := _END_OF_BLOCK.match(name.removeprefix(layout.backbone)))
  ]
  return max(ends)[2] if ends else None


def infer_beside_encoder(
  shapes: Shapes, layout: Layout, dimension: int, source: str
) -> dict[str, tuple[int, ...]]:
  """Finds what was trained beside the encoder: classifier and method.

  Args:
    shapes: of the tensors, by name, without wrappers.
    layout: whose names they are.
    dimension: the width D of an embedding.
    source: what the weights are called in errors.

  Returns:
    Shapes of our variables, by their path in a training state.

  Raises:
    InputError: if a weight has another number of axes.
  """
  found: dict[str, tuple[int, ...]] = {}
  classifier = f'{layout.parts.get("classifier")}.weight'
  if classifier in shapes:
    classes, _ = _shape(shapes, classifier, 2, source)
    found['params/classifier/kernel'] = (dimension, classes)
  boundary = layout.parts.get('method/boundary', '')
  if boundary in shapes:
    found['params/method/boundary'] = shapes[boundary][:1]
  first = f'{layout.parts.get("method/discriminator/fc1")}.weight'
  norm = f'{layout.parts.get("method/discriminator/bn1")}.weight'
  if first in shapes:
    # It sees the compatible part of an embedding, which may be all of it. What
    # is wider is a fault that is better told of as one of shapes.
    _, seen = _shape(shapes, first, 2, source)
    embeddings = np.zeros((1, min(dimension, seen)), np.float32)
    discriminator = Discriminator('per_domain' if norm in shapes else 'none')
    variables = jax.eval_shape(
      discriminator.init, jax.random.key(0), embeddings, embeddings
    )
    found |= {
      f'{collection}/method/discriminator/{path}': leaf.shape
      for collection, tree in variables.items()
      for path, leaf in traverse_util.flatten_dict(tree, sep='/').items()
    }
  return found


def _shape(
  shapes: Shapes, name: str, axes: int, source: str
) -> tuple[int, ...]:
  """The shape of a tensor that must have so many axes."""
  shape = shapes.get(name)
  if shape is None or len(shape) != axes:
    raise InputError(
      f'{source}: {name} is {"missing" if shape is None else shape}; wanted: '
      f'{axes} axes. The file is damaged, or its weights are of no '
      'architecture that is known here.'
    )
  return shape


def _infer_head(
  shapes: Shapes, layout: Layout, features: int, source: str
) -> dict[str, Any]:
  projection = layout.parts.get('encoder/projection')
  if f'{projection}.weight' not in shapes:
    return {'head': 'none', 'dimension': features}
  return {
    'head': 'linear' if f'{projection}.bias' in shapes else 'batch_norm',
    'dimension': _shape(shapes, f'{projection}.weight', 2, source)[0],
  }


def _infer_resnet(shapes: Shapes, source: str) -> tuple[dict[str, Any], int]:
  sizes = _stage_sizes(shapes)
  block: type[resnet.BasicBlock] | type[resnet.BottleneckBlock] = (
    resnet.BottleneckBlock
    if 'layer1.0.conv3.weight' in shapes
    else resnet.BasicBlock
  )
  stem_channels, _, _, size = _shape(shapes, 'conv1.weight', 4, source)
  names = [
    name
    for name, make in resnet.RESNETS.items()
    if (make().stage_sizes, make().block) == (sizes, block)
  ]
  if not names or size not in _STEMS:
    raise InputError(
      f'{source}: a ResNet with {"-".join(map(str, sizes))} blocks '
      f'({block.__name__}) and a first kernel of {size}×{size} pixels; wanted: '
      f'{_known()}, with a first kernel of 7×7 or 3×3.'
    )
  channels = [
    stem_channels,
    *(
      _shape(shapes, f'layer{stage + 1}.0.conv1.weight', 4, source)[0]
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


def _stage_sizes(shapes: Shapes) -> tuple[int, ...]:
  """The number of blocks in each stage of a ResNet."""
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


def _infer_efficientnet_lite(
  shapes: Shapes, layout: Layout, source: str
) -> tuple[dict[str, Any], int]:
  if others := [name for name in shapes if _SQUEEZE.search(name)]:
    raise InputError(
      f'{source}: {others[0]} is of squeeze-and-excitation, which an '
      f'EfficientNet-Lite has none of; wanted: {_known()}.'
    )
  # Blocks are told by a layer that every one has.
  blocks = {name for name in shapes if _DEPTHWISE.search(name)}
  tried = []
  for architecture, make in efficientnet_lite.EFFICIENTNET_LITES.items():
    module = make()
    sizes = module.stage_sizes
    places = [(s, i) for s, count in enumerate(sizes) for i in range(count)]
    if blocks != {_name(layout, f'blocks_{s}_{i}/conv_dw') for s, i in places}:
      continue
    ends = [f'blocks_{s}_0/conv_pw{"l" * (s > 0)}' for s in range(len(sizes))]
    channels = [
      _shape(shapes, _name(layout, layer), 4, source)[0]
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
    f'{_known()}{wanted}.'
  )


def _name(layout: Layout, module: str) -> str:
  """What the kernel of a module of a backbone is called."""
  name = layout.pytorch_name(f'params/encoder/backbone/{module}/kernel')
  assert name is not None  # all modules of a backbone have one
  return name


def _infer_vit(shapes: Shapes, source: str) -> tuple[dict[str, Any], int]:
  _, positions, channels = _shape(shapes, 'pos_embed', 3, source)
  patch = _shape(shapes, 'patch_embed.proj.weight', 4, source)
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
      f'{positions} position embeddings; wanted: {_known()}, with patches of '
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


def _known() -> str:
  return ', '.join(known_architectures())
