"""What weights have beside a backbone: an embedding layer, or a classifier."""

from collections.abc import Iterable, Mapping
import re

import numpy as np

from advbct_jax.weights.layouts import Layout

Tensors = Mapping[str, np.ndarray]

_BACKBONE = re.compile(
  r'(conv1|bn1|layer\d+|cls_token|pos_embed|patch_embed|blocks|norm|fc_norm)\.|'
  r'(cls_token|pos_embed)$|'
  r'(conv_stem|conv_head|_conv_stem|_bn0|_blocks|_conv_head|_bn1)\.'
)
# A ResNet with a BatchNorm as its embedding layer may have it under this name.
_ENDS_EFFICIENTNET = re.compile(r'bn2\.')
# What libraries and trainers call a classifier, or a loss that has one.
_CLASSIFIER = re.compile(
  r'(^|[./])(_?fc|heads?|head_dist|classifier|last_linear|criterion|loss)$'
)
_IMAGENET_CLASSES = 1000


def find_standing(
  tensors: Tensors, layout: Layout, features: int
) -> dict[str, list[str]]:
  """Finds the modules that take the backbone's features.

  Args:
    tensors: by name.
    layout: whose names they are.
    features: the width E of these features.

  Returns:
    The names of their tensors, by module.
  """
  return {
    group: names
    for group, names in modules_beside(tensors, layout).items()
    if any(_takes(features, name, tensors[name]) for name in names)
  }


def modules_beside(tensors: Tensors, layout: Layout) -> dict[str, list[str]]:
  """Finds what is neither of the backbone nor of what a layout has beside it.

  Args:
    tensors: by name.
    layout: whose names they are.

  Returns:
    The names of the tensors, by their module.
  """
  taken = [
    name if name in tensors else f'{name}.' for name in layout.parts.values()
  ]
  efficientnet = f'{layout.backbone}conv_stem.weight' in tensors
  groups: dict[str, list[str]] = {}
  for name in tensors:
    below = name.removeprefix(layout.backbone)
    inside = name.startswith(layout.backbone) and (
      _BACKBONE.match(below)
      or (efficientnet and _ENDS_EFFICIENTNET.match(below))
    )
    if not inside and not name.startswith(tuple(taken)):
      groups.setdefault(_module(name, layout.backbone), []).append(name)
  return groups


def _module(name: str, backbone: str) -> str:
  """The outermost module of a tensor that does not hold the backbone."""
  steps, above = re.split(r'(?<=[./])', name), re.split(r'(?<=\.)', backbone)
  shared = 0
  while steps[shared] == above[min(shared, len(above) - 1)]:
    shared += 1
  return ''.join(steps[: shared + 1]).rstrip('./')


def _takes(features: int, name: str, tensor: np.ndarray) -> bool:
  """Whether a tensor may be of a layer on so many features."""
  if name.endswith('.running_mean'):
    return tensor.shape == (features,)
  if tensor.ndim != 2:
    return False
  # A parameter without a module, as CLIP's proj, may have its inputs first.
  bare = not name.endswith('weight')
  return features in (tensor.shape if bare else tensor.shape[1:])


def is_classifier(
  group: str, tensors: Iterable[np.ndarray], features: int
) -> bool:
  """Whether a module is named and shaped as classifiers are.

  That is wider than the features, as embeddings hardly are, or of the classes
  of ImageNet.

  Args:
    group: the name of the module.
    tensors: of the module.
    features: the width E of the features that it stands on.
  """
  shapes = [tensor.shape for tensor in tensors if tensor.ndim == 2]
  # Of a head of several layers, the widths that no other layer takes.
  taken = {inputs for _, inputs in shapes if inputs != features}
  outputs = max((width for width, _ in shapes if width not in taken), default=0)
  return bool(_CLASSIFIER.search(group)) and (
    outputs > features or outputs == _IMAGENET_CLASSES
  )
