"""Whose names weights have: ours, or those of some PyTorch code.

A model of ours is a tree of variables: `params` and `batch_stats` of `encoder`,
`classifier` and `method`. Here its leaves are named by their path, such as
`params/encoder/backbone/layer1_0/conv1/kernel`. A layout gives each leaf the
name that it has in a state dict; the axes go over in one way for all.
"""

import collections
from collections.abc import Iterable, Mapping
import dataclasses
import re

import numpy as np

Names = Iterable[str]

COUNTER = 'num_batches_tracked'

_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}
# Our modules of a backbone under timm's names, torchvision's for a ResNet.
_BACKBONE_MODULES = (
  (re.compile(r'^(layer\d+|blocks)_'), r'\1.'),
  (re.compile(r'downsample_conv$'), 'downsample.0'),
  (re.compile(r'downsample_bn$'), 'downsample.1'),
  (re.compile(r'\.(qkv|proj)$'), r'.attn.\1'),
  (re.compile(r'\.(fc1|fc2)$'), r'.mlp.\1'),
  (re.compile(r'^patch_embed$'), 'patch_embed.proj'),
)
_BACKBONE = 'encoder/backbone'


@dataclasses.dataclass(frozen=True)
class Layout:
  """The names of one PyTorch code.

  Attributes:
    name: of the layout, a key of `LAYOUTS`.
    backbone: stands in front of timm's or torchvision's names of a backbone.
    parts: its names of our other modules and leaves, by our path.
  """

  name: str
  backbone: str
  parts: Mapping[str, str]

  def under(self, prefix: str) -> 'Layout':
    """The same where all of it is a module of a larger one.

    >>> TIMM.under('model.').counter_name('encoder/backbone/bn1')
    'model.bn1.num_batches_tracked'
    """
    return dataclasses.replace(
      self,
      backbone=prefix + self.backbone,
      parts={ours: prefix + theirs for ours, theirs in self.parts.items()},
    )

  def pytorch_name(self, ours: str) -> str | None:
    """The name of one of our leaves in a state dict, None if it has none.

    >>> name = PUBLISHED.pytorch_name
    >>> name('params/encoder/backbone/layer1_0/downsample_bn/scale')
    'convnet.layer1.0.downsample.1.weight'
    >>> name('params/encoder/backbone/blocks_3/qkv/kernel')
    'convnet.blocks.3.attn.qkv.weight'
    >>> name('params/method/boundary')
    'eboundary.weight'
    """
    _, path = ours.split('/', 1)
    if path in self.parts:
      return self.parts[path]
    module, _, leaf = path.rpartition('/')
    if leaf not in _LEAVES:
      return self.backbone + leaf if module == _BACKBONE else None
    theirs = self._module_name(module)
    return theirs and f'{theirs}.{_LEAVES[leaf]}'

  def counter_name(self, module: str) -> str | None:
    """The name of a BatchNorm's counter, None if the module has none.

    >>> PUBLISHED.counter_name('encoder/bn')
    'bn.num_batches_tracked'
    """
    theirs = self._module_name(module)
    return theirs and f'{theirs}.{COUNTER}'

  def _module_name(self, module: str) -> str | None:
    if not module.startswith(f'{_BACKBONE}/'):
      return self.parts.get(module)
    name = module.removeprefix(f'{_BACKBONE}/').replace('/', '.')
    for ours, theirs in _BACKBONE_MODULES:
      name = ours.sub(theirs, name)
    return self.backbone + name


PUBLISHED = Layout(
  'published',
  'convnet.',
  {
    'encoder/projection': 'projection_dim',
    'encoder/bn': 'bn',
    'classifier': 'projection_cls',
    'method/boundary': 'eboundary.weight',
    'method/discriminator/fc1': 'discriminator.d_fc1',
    'method/discriminator/bn1': 'discriminator.d_bn1',
    'method/discriminator/fc2': 'discriminator.d_fc2',
  },
)
OPENCOMPATIBLE = Layout(
  'opencompatible',
  'backbone.',
  {'encoder/projection': 'fc_emb', 'classifier': 'fc_classify'},
)
TIMM = Layout('timm', '', {})
LAYOUTS = {layout.name: layout for layout in (PUBLISHED, OPENCOMPATIBLE, TIMM)}


def find_layout(names: Names) -> Layout:
  """Tells whose names these are.

  Args:
    names: of a state dict, without wrappers.

  >>> find_layout(['conv1.weight', 'fc.weight']).name
  'timm'
  """
  names = set(names)
  if any(name.startswith(PUBLISHED.backbone) for name in names):
    return PUBLISHED
  if 'projection_dim.weight' in names:
    return dataclasses.replace(PUBLISHED, backbone='')
  if 'fc_emb.weight' in names:
    # OpenCompatible's code has had both names of the classifier.
    if 'fc_classifier.weight' in names:
      parts = {**OPENCOMPATIBLE.parts, 'classifier': 'fc_classifier'}
      return dataclasses.replace(OPENCOMPATIBLE, parts=parts)
    return OPENCOMPATIBLE
  return TIMM


def count_groups(names: Names) -> str:
  """Says how many names there are of each entry or outermost module.

  >>> count_groups(['fc.weight', 'fc.bias', 'scale', 'teacher/fc.bias'])
  'fc (2), scale (1), teacher (1)'
  """
  counts = collections.Counter(re.split(r'[./]', name)[0] for name in names)
  return ', '.join(f'{group} ({count})' for group, count in counts.items())


def to_flax(tensor: np.ndarray) -> np.ndarray:
  """Views [O, I, H, W] as [H, W, I, O] and [O, I] as [I, O]."""
  if tensor.ndim == 4:
    return tensor.transpose(2, 3, 1, 0)
  return tensor.T if tensor.ndim == 2 else tensor


def to_pytorch(array: np.ndarray) -> np.ndarray:
  """Views [H, W, I, O] as [O, I, H, W] and [I, O] as [O, I]."""
  if array.ndim == 4:
    return array.transpose(3, 2, 0, 1)
  return array.T if array.ndim == 2 else array


def pytorch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  """The shape that `to_pytorch` gives."""
  return to_pytorch(np.broadcast_to(0, shape)).shape
