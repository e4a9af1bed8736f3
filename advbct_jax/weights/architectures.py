"""Which encoder some weights are of, found out from their names and shapes."""

from collections.abc import Mapping
import itertools
import math
import re
from typing import Any

from flax import traverse_util
import jax
import numpy as np

from advbct_jax.errors import InputError
from advbct_jax.models import efficientnet_lite, vit
from advbct_jax.models.backbones import known_architectures
from advbct_jax.models.discriminator import Discriminator
from advbct_jax.weights.backbone_shapes import (
  find_stage_sizes,
  infer_efficientnet_lite,
  infer_resnet,
  infer_vit,
  require_shape,
)
from advbct_jax.weights.layouts import OPENCOMPATIBLE, Layout

Shapes = Mapping[str, tuple[int, ...]]

_END_OF_BLOCK = re.compile(r'^layer(\d+)\.0\.conv(\d)\.weight$')


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
    fields, features = infer_vit(backbone, source)
  elif layout.kernel_name('conv_stem') in shapes:
    fields, features = infer_efficientnet_lite(shapes, layout, source)
  elif 'conv1.weight' in backbone and find_stage_sizes(backbone):
    fields, features = infer_resnet(backbone, source)
    if layout.name == OPENCOMPATIBLE.name:
      # Its code pools so, by a power that is no tensor to be found here.
      fields['pooling'] = 'gem'
  else:
    raise InputError(
      f'{source}: the weights are of no architecture that is known here; their '
      f'first names are {", ".join(itertools.islice(shapes, 5))}. Wanted: '
      f'{", ".join(known_architectures())}, as timm, torchvision or '
      'efficientnet-lite-pytorch names their layers.'
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


def usual_preprocessing(architecture: str) -> dict[str, Any]:
  """What images go through where neither a card nor a person says it.

  Args:
    architecture: of a backbone.

  Returns:
    `image_size` in pixels, `normalization` and `resampling`.
  """
  make = efficientnet_lite.EFFICIENTNET_LITES.get(architecture)
  if make:
    # Unlike others' these have been trained in one place and one way.
    return {
      'image_size': make().image_size,
      'normalization': 'efficientnet_lite',
      'resampling': 'bicubic',
    }
  return {
    'image_size': 224,
    'normalization': 'imagenet',
    'resampling': 'bilinear',
  }


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
  positions = require_shape(shapes, name, 3, source)[1]
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
  if layout.kernel_name('conv_stem') in shapes:
    head = shapes.get(layout.kernel_name('conv_head'))
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
    classes, _ = require_shape(shapes, classifier, 2, source)
    found['params/classifier/kernel'] = (dimension, classes)
  boundary = layout.parts.get('method/boundary', '')
  if boundary in shapes:
    found['params/method/boundary'] = shapes[boundary][:1]
  first = f'{layout.parts.get("method/discriminator/fc1")}.weight'
  norm = f'{layout.parts.get("method/discriminator/bn1")}.weight'
  if first in shapes:
    # It sees the compatible part of an embedding, which may be all of it. What
    # is wider is a fault that is better told of as one of shapes.
    _, seen = require_shape(shapes, first, 2, source)
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


def _infer_head(
  shapes: Shapes, layout: Layout, features: int, source: str
) -> dict[str, Any]:
  projection = layout.parts.get('encoder/projection')
  if f'{projection}.weight' not in shapes:
    return {'head': 'none', 'dimension': features}
  return {
    'head': 'linear' if f'{projection}.bias' in shapes else 'batch_norm',
    'dimension': require_shape(shapes, f'{projection}.weight', 2, source)[0],
  }
