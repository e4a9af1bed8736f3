"""Whose names weights have: ours, or those of some PyTorch code.

A model of ours is a tree of variables: `params` and `batch_stats` of `encoder`,
`classifier` and `method`. Here its leaves are named by their path, such as
`params/encoder/backbone/layer1_0/conv1/kernel`. A layout gives each leaf the
name that it has in a state dict; the axes go over in one way for all.
"""

import collections
from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import re

import numpy as np

from advbct_jax.models.efficientnet_lite import EFFICIENTNET_LITES

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
  (re.compile(r'^blocks_(\d+)_(\d+)'), r'blocks.\1.\2'),
  (re.compile(r'^(layer\d+|blocks)_'), r'\1.'),
  (re.compile(r'downsample_conv$'), 'downsample.0'),
  (re.compile(r'downsample_bn$'), 'downsample.1'),
  (re.compile(r'\.(qkv|proj)$'), r'.attn.\1'),
  (re.compile(r'\.(fc1|fc2)$'), r'.mlp.\1'),
  (re.compile(r'^patch_embed$'), 'patch_embed.proj'),
)
# The same of an EfficientNet-Lite in the package efficientnet-lite-pytorch, as
# in efficientnet-pytorch: beside its blocks, in those of its first stage, which
# don't widen, and in all others.
_OUTSIDE = {
  'conv_stem': '_conv_stem',
  'bn1': '_bn0',
  'conv_head': '_conv_head',
  'bn2': '_bn1',
}
_FIRST_STAGE = {
  'conv_dw': '_depthwise_conv',
  'bn1': '_bn1',
  'conv_pw': '_project_conv',
  'bn2': '_bn2',
}
_OTHER_STAGES = {
  'conv_pw': '_expand_conv',
  'bn1': '_bn0',
  'conv_dw': '_depthwise_conv',
  'bn2': '_bn1',
  'conv_pwl': '_project_conv',
  'bn3': '_bn2',
}
_BLOCK_OF_STAGE = re.compile(r'^blocks_(\d+)_(\d+)$')
_NUMBERED_BLOCK = re.compile(r'_blocks\.(\d+)\.')
_BACKBONE = 'encoder/backbone'


@dataclasses.dataclass(frozen=True)
class Layout:
  """The names of one PyTorch code.

  Attributes:
    name: of the layout, a key of `LAYOUTS` but for those that weights are only
      read in.
    backbone: stands in front of timm's or torchvision's names of a backbone.
    parts: its names of our other modules and leaves, by our path.
    stage_sizes: of an EfficientNet-Lite under the names of its PyTorch package
      instead of timm's: the blocks in each stage, since it numbers blocks
      throughout.
  """

  name: str
  backbone: str
  parts: Mapping[str, str]
  stage_sizes: Sequence[int] = ()

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
    >>> name('params/encoder/backbone/blocks_2_0/conv_dw/kernel')
    'convnet.blocks.2.0.conv_dw.weight'
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

  def kernel_name(self, module: str) -> str:
    """The name of the kernel of a module of a backbone.

    >>> TIMM.kernel_name('layer1_0/conv2')
    'layer1.0.conv2.weight'
    """
    return f'{self._module_name(f"{_BACKBONE}/{module}")}.weight'

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
    module = module.removeprefix(f'{_BACKBONE}/')
    if self.stage_sizes:
      return self.backbone + _number_throughout(module, self.stage_sizes)
    name = module.replace('/', '.')
    for ours, theirs in _BACKBONE_MODULES:
      name = ours.sub(theirs, name)
    return self.backbone + name


def _number_throughout(module: str, stage_sizes: Sequence[int]) -> str:
  """The name of a module of ours in the package of EfficientNet-Lite."""
  block, _, layer = module.rpartition('/')
  if not block:
    return _OUTSIDE.get(layer, layer)
  if not (place := _BLOCK_OF_STAGE.match(block)):
    return module.replace('/', '.')  # of another backbone, so of no weights
  stage, index = map(int, place.groups())
  number = sum(stage_sizes[:stage]) + index
  layers = _OTHER_STAGES if stage else _FIRST_STAGE
  return f'_blocks.{number}.{layers.get(layer, layer)}'


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
# What `find_layout` calls the names of efficientnet-lite-pytorch.
EFFICIENTNET_PYTORCH = 'efficientnet_pytorch'
LAYOUTS = {layout.name: layout for layout in (PUBLISHED, OPENCOMPATIBLE, TIMM)}


def find_layout(names: Names) -> Layout:
  """Tells whose names these are.

  Args:
    names: of a state dict, without wrappers.

  >>> find_layout(['conv1.weight', 'fc.weight']).name
  'timm'
  >>> find_layout(['_conv_stem.weight', '_fc.weight']).name
  'efficientnet_pytorch'
  """
  names = set(names)
  layout = _find_modules(names)
  if f'{layout.backbone}_conv_stem.weight' not in names:
    return layout
  blocks = {
    match[1]
    for name in names
    if (match := _NUMBERED_BLOCK.match(name.removeprefix(layout.backbone)))
  }
  # Their number tells the stages, and if it is of none that is known, it is for
  # others to say so.
  sizes = {sum(sizes): sizes for sizes in _known_stage_sizes()}
  return dataclasses.replace(
    layout,
    name=EFFICIENTNET_PYTORCH if layout.name == TIMM.name else layout.name,
    stage_sizes=sizes.get(len(blocks), (len(blocks),)),
  )


def _known_stage_sizes() -> list[tuple[int, ...]]:
  return [make().stage_sizes for make in EFFICIENTNET_LITES.values()]


def _find_modules(names: Collection[str]) -> Layout:
  """Tells whose names those of the modules beside the backbone are."""
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
