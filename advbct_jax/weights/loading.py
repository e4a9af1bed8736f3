"""Weights under PyTorch's names become variables of our encoder.

Understood are state dicts of timm's and torchvision's ResNets (`conv1.weight`,
`layer1.0.bn1.running_mean`, …) and of the published AdvBCT code, which puts
`convnet.` in front of these and adds `projection_dim` and `bn`.
"""

from collections.abc import Mapping
import re
from typing import Any

from flax import traverse_util
import numpy as np

from advbct_jax.errors import InputError

Tensors = Mapping[str, np.ndarray]

_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}
_PUBLISHED_BACKBONE = 'convnet.'
# What weights may bring that an encoder has no place for: classifiers of their
# own classes, the published discriminator and boundaries, batch counters.
_NOT_THE_ENCODER = re.compile(
  r'^(fc|head|projection_cls|discriminator|eboundary)\.|num_batches_tracked$'
)


def load_encoder_variables(
  tensors: Tensors, variables: Any, source: str
) -> tuple[Any, list[str]]:
  """Puts PyTorch weights into an encoder's variables.

  Either the whole encoder is loaded, or its whole backbone where the weights
  have no embedding layer, as ImageNet's have none; nothing in between.

  Args:
    tensors: arrays by PyTorch name.
    variables: `params` and `batch_stats` of an `Encoder`, freshly drawn.
    source: what the weights are called in errors.

  Returns:
    The variables with the weights in them, and the names of ours that the
    weights had nothing for, which stay freshly drawn.

  Raises:
    InputError: if a weight is missing, left over or of another shape.
  """
  flat = traverse_util.flatten_dict(variables, sep='/')
  prefix = _PUBLISHED_BACKBONE if _has_prefix(tensors) else ''
  names = {ours: _pytorch_name(ours, prefix) for ours in flat}
  backbone_only = 'projection_dim.weight' not in tensors
  fresh = [
    ours for ours in flat if backbone_only and '/backbone/' not in f'/{ours}'
  ]
  wanted = {ours: names[ours] for ours in flat if ours not in fresh}
  missing = sorted(set(wanted.values()) - set(tensors))
  left_over = sorted(
    name
    for name in set(tensors) - set(wanted.values())
    if not _NOT_THE_ENCODER.search(name)
  )
  misshapen = sorted(
    f'{theirs} is {tensors[theirs].shape}, '
    f'wanted {_pytorch_shape(flat[ours].shape)}'
    for ours, theirs in wanted.items()
    if theirs in tensors
    and tensors[theirs].shape != _pytorch_shape(flat[ours].shape)
  )
  if missing or left_over or misshapen:
    raise InputError(
      f'{source}: these weights are not those of the configured encoder.'
      + _listed('missing', missing)
      + _listed('left over', left_over)
      + _listed('of another shape', misshapen)
      + '\nSet config.model.architecture, width, stem and dimension to those '
      'of the weights.'
    )
  for ours, theirs in wanted.items():
    flat[ours] = _to_flax(tensors[theirs]).astype(flat[ours].dtype)
  return traverse_util.unflatten_dict(flat, sep='/'), fresh


def _has_prefix(tensors: Tensors) -> bool:
  return any(name.startswith(_PUBLISHED_BACKBONE) for name in tensors)


def _pytorch_name(ours: str, backbone_prefix: str) -> str:
  """The published name of one of our variables.

  >>> _pytorch_name('params/backbone/layer1_0/downsample_bn/scale', 'convnet.')
  'convnet.layer1.0.downsample.1.weight'
  >>> _pytorch_name('params/projection/kernel', '')
  'projection_dim.weight'
  """
  *path, leaf = ours.split('/')[1:]
  if path[0] == 'backbone':
    name = '.'.join(path[1:])
    name = re.sub(r'(layer\d)_', r'\1.', name)
    name = name.replace('downsample_conv', 'downsample.0')
    name = name.replace('downsample_bn', 'downsample.1')
    name = backbone_prefix + name
  else:
    name = {'projection': 'projection_dim', 'bn': 'bn'}[path[0]]
  return f'{name}.{_LEAVES[leaf]}'


def _to_flax(tensor: np.ndarray) -> np.ndarray:
  """[O, I, H, W] to [H, W, I, O], and [O, I] to [I, O]."""
  if tensor.ndim == 4:
    return tensor.transpose(2, 3, 1, 0)
  return tensor.T


def _pytorch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  """[H, W, I, O] to [O, I, H, W], and [I, O] to [O, I]."""
  if len(shape) == 4:
    height, width, inputs, outputs = shape
    return outputs, inputs, height, width
  return shape[::-1]


def _listed(title: str, names: list[str]) -> str:
  if not names:
    return ''
  shown = '\n    '.join(names[:10])
  more = f'\n    … ({len(names)} in all)' if len(names) > 10 else ''
  return f'\n  {title}:\n    {shown}{more}'
