"""The layer that makes a backbone's features an embedding, found in weights.

Names don't tell an embedding from a classifier: metric learning puts the one
where torchvision has the other, in `fc`. So whatever may be the embedding is
asked about.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import re

import numpy as np

from advbct_jax.errors import InputError
from advbct_jax.weights.beside_backbone import (
  find_standing,
  is_classifier,
  modules_beside,
)
from advbct_jax.weights.layouts import COUNTER, Layout

Tensors = Mapping[str, np.ndarray]

# The answers to the question whether something is the embedding.
NONE, RELU = 'none', 'relu'


@dataclasses.dataclass(frozen=True)
class Settled:
  """Weights whose embedding is known.

  Attributes:
    tensors: by name, those of an embedding layer as `Encoder` has them.
    layout: whose names they are, the embedding layer's included.
    relu: whether a ReLU follows the embedding layer.
    left_out: names of what stood on the backbone or on the embedding.
    assumed: what weights cannot tell of the embedding layer, as a sentence.
    rewritten: whether the layer had to be brought into the form that it has
      here, so that its original tensors cannot be given back.
  """

  tensors: Tensors
  layout: Layout
  relu: bool = False
  left_out: Sequence[str] = ()
  assumed: str = ''
  rewritten: bool = False


def settle_embedding(
  tensors: Tensors,
  layout: Layout,
  features: int,
  embedding: str | None,
  source: str,
) -> Settled:
  """Finds out what the embedding is; asks where that cannot be told.

  Args:
    tensors: by name.
    layout: whose names they are.
    features: the width E of the backbone's features.
    embedding: the modules that are the embedding layer, in their order, with
      commas between them, such as `fc` or `fc,relu`; `none` for no layer; None
      where nobody has said it.
    source: what the weights are called in errors.

  Returns:
    The weights with the embedding layer in its place, if there is one.

  Raises:
    InputError: if it has to be asked, or the answer cannot be.
  """
  own = layout.parts.get('encoder/projection')
  if f'{own}.weight' in tensors:
    if embedding:
      raise InputError(
        f'{source}: their embedding layer is {own}, by the names of '
        f'{layout.name}. Leave --embedding out.'
      )
    width = len(tensors[f'{own}.weight'])
    return _leave_out(Settled(tensors, layout), {features, width})
  standing = find_standing(tensors, layout, features)
  if embedding is None:
    asked = [
      group
      for group, names in standing.items()
      if not is_classifier(group, [tensors[name] for name in names], features)
    ]
    if asked:
      raise InputError(_question(asked, tensors, layout, features, source))
  if embedding in (None, NONE):
    names = [name for group in standing.values() for name in group]
    kept = {name: tensors[name] for name in tensors if name not in set(names)}
    return Settled(kept, layout, left_out=names)
  settled = attach_layer(tensors, layout, features, embedding, source)
  projection = settled.layout.parts['encoder/projection']
  width = len(settled.tensors[f'{projection}.weight'])
  return _leave_out(settled, {features, width})


def attach_layer(
  tensors: Tensors,
  layout: Layout,
  features: int,
  embedding: str,
  source: str,
) -> Settled:
  """Makes modules that stand on the backbone the embedding layer.

  Args:
    tensors: by name.
    layout: whose names they are, without an embedding layer.
    features: the width E of the backbone's features.
    embedding: as `settle_embedding` takes it.
    source: what the weights are called in errors.

  Returns:
    The weights with a linear layer, with a bias or a BatchNorm after it.

  Raises:
    InputError: if there are no such modules, or they are something else.
  """
  *modules, last = embedding.replace(' ', '').split(',')
  relu = last == RELU
  if not relu:
    modules.append(last)
  layers = {
    module: _layers(module, tensors, layout, features, source)
    for module in modules
  }
  paths = [path for found in layers.values() for path in found]
  kinds = [_kind(path, tensors) for path in paths]
  if kinds not in (['Linear'], ['Linear', 'BatchNorm'], ['BatchNorm']):
    raise InputError(
      f'{source}: --embedding={embedding} is '
      + ', '.join(f'{p} ({k})' for p, k in zip(paths, kinds, strict=True))
      + '; wanted: a Linear, a BatchNorm, or one and then the other, which is '
      'all that an encoder has after its backbone here. --embedding=none makes '
      'the features the embedding.'
    )
  if relu and kinds == ['Linear']:
    raise InputError(
      f'{source}: --embedding={embedding}: a ReLU has a place here only after '
      'a BatchNorm. Export vectors with the old encoder, and give these to '
      'to-store.'
    )
  for module, found in layers.items():
    _require_no_gap(found, module, source)
  made = dict(tensors)
  # Their entry of the checkpoint does not matter any more.
  names = [path.replace('/', '.') for path in paths]
  for path, name in zip(paths, names, strict=True):
    for tensor in [n for n in made if _parent(n) == path]:
      made[name + tensor[len(path) :]] = made.pop(tensor)
  before = dict(made)
  if kinds[0] == 'BatchNorm':
    names.insert(0, f'{names[0]}.identity')
    made[f'{names[0]}.weight'] = np.eye(features, dtype=np.float32)
  _require_fitting(made, names, features, source)
  _bring_into_form(made, *names)
  parts = zip(('encoder/projection', 'encoder/bn'), names, strict=False)
  return Settled(
    made,
    dataclasses.replace(layout, parts={**layout.parts, **dict(parts)}),
    relu,
    assumed=f'{names[-1]} is taken to be '
    + ('followed by a ReLU' if relu else 'the last layer, without a ReLU')
    + ', which weights cannot tell',
    rewritten=made.keys() != before.keys(),
  )


def _require_fitting(
  tensors: Tensors, names: Sequence[str], features: int, source: str
) -> None:
  """Refuses layers that don't take what the one before them gives."""
  width, inputs = tensors[f'{names[0]}.weight'].shape
  if inputs != features:
    raise InputError(
      f'{source}: --embedding: {names[0]} takes {inputs} values, but the '
      f'backbone has {features} features.'
    )
  for name in names:
    for leaf in ('bias', 'running_mean'):
      found = tensors.get(f'{name}.{leaf}')
      if found is not None and found.shape != (width,):
        raise InputError(
          f'{source}: --embedding: {name}.{leaf} is {found.shape}, but '
          f'{names[0]} gives {width} values.'
        )


def _bring_into_form(
  tensors: dict[str, np.ndarray], linear: str, norm: str = ''
) -> None:
  """Changes layers to those that an `Encoder` has, which compute the same.

  That is a linear layer with a bias, or one without before a BatchNorm.
  """
  width = len(tensors[f'{linear}.weight'])
  if not norm:
    tensors.setdefault(f'{linear}.bias', np.zeros(width, np.float32))
    return
  for leaf, value in (('weight', 1), ('bias', 0)):  # for affine=False
    tensors.setdefault(f'{norm}.{leaf}', np.full(width, value, np.float32))
  bias = tensors.pop(f'{linear}.bias', None)
  if bias is not None:
    # BatchNorm subtracts its mean, so a bias before it can go there.
    mean = tensors[f'{norm}.running_mean'].astype(np.float32)
    tensors[f'{norm}.running_mean'] = mean - bias


def _leave_out(settled: Settled, widths: set[int]) -> Settled:
  """Leaves out classifiers on the features, or on the embedding."""
  kept, left_out = dict(settled.tensors), []
  for names in modules_beside(settled.tensors, settled.layout).values():
    shapes = [settled.tensors[name].shape for name in names]
    matrices = [shape for shape in shapes if len(shape) == 2]
    # One matrix, with a bias at most: a whole network is no classifier.
    if len(matrices) == 1 and len(names) < 3 and matrices[0][1] in widths:
      left_out += names
  for name in left_out:
    del kept[name]
  return dataclasses.replace(settled, tensors=kept, left_out=left_out)


def _question(
  asked: Sequence[str],
  tensors: Tensors,
  layout: Layout,
  features: int,
  source: str,
) -> str:
  """Asks whether one of these modules is the embedding."""
  found, answers = [], []
  for group in asked:
    name = group.replace('/', '.')
    try:
      settled = attach_layer(tensors, layout, features, group, source)
    except InputError:
      found.append(f'{name}, of a form that has no place here,')
      continue
    parts = settled.layout.parts
    width = len(settled.tensors[f'{parts["encoder/projection"]}.weight'])
    found.append(f'{name} ({features} to {width})')
    answer = f'--embedding={name} makes it the embedding layer'
    if 'encoder/bn' in parts:
      answer += (
        f' (--embedding={name},{RELU} if a ReLU follows, as in torchreid)'
      )
    answers.append(answer)
    answers += [
      f'--embedding={name},{norm} takes both'
      for norm, names in modules_beside(tensors, layout).items()
      if norm not in asked
      and any(
        path.endswith('.running_mean') and tensors[path].shape == (width,)
        for path in names
      )
    ]
  return (
    f'{source}: {", ".join(found)} may be the embedding, or a classifier. Say '
    f'which: {"; ".join([*answers, ""])}--embedding={NONE} leaves it out, so '
    f'that the {features} features of the backbone are the embedding.'
  )


def _layers(
  module: str, tensors: Tensors, layout: Layout, features: int, source: str
) -> list[str]:
  """The paths of the layers of a module, in their order."""
  outside = [
    name for group in modules_beside(tensors, layout).values() for name in group
  ]
  ending = re.compile(
    r'(?:.*[./])?' + re.escape(module).replace(r'\.', '[./]') + r'(?=[./])'
  )
  inside: dict[str, None] = {}
  for name in outside:
    if ending.match(name):
      inside[_parent(name)] = None
  if not inside:
    groups = [
      group.replace('/', '.')
      for group in find_standing(tensors, layout, features)
    ]
    raise InputError(
      f'{source}: --embedding: no module {module} beside the backbone; on its '
      f'features stands {", ".join(groups) or "nothing"}.'
    )
  return sorted(inside, key=_by_number)


def _require_no_gap(paths: Sequence[str], module: str, source: str) -> None:
  """Refuses a Sequential that has had a layer without weights between two."""
  steps = [re.search(r'[./](\d+)$', path) for path in paths]
  numbers = [int(step[1]) for step in steps if step]
  if len(numbers) == len(paths) > 1 and numbers[-1] - numbers[0] >= len(paths):
    listed = ','.join(path.replace('/', '.') for path in paths)
    raise InputError(
      f'{source}: --embedding={module}: between {listed} there is a layer '
      f'without weights. If it is a Dropout: --embedding={listed}; a ReLU has '
      'no place there.'
    )


def _kind(path: str, tensors: Tensors) -> str:
  """What kind of layer it is, by what tensors it has."""
  leaves = {
    name[len(path) + 1 :]: tensors[name].ndim
    for name in tensors
    if _parent(name) == path
  }
  if 'running_mean' in leaves and leaves.keys() <= {
    'weight',
    'bias',
    'running_mean',
    'running_var',
    COUNTER,
  }:
    return 'BatchNorm'
  if leaves.get('weight') == 2 and leaves.keys() <= {'weight', 'bias'}:
    return 'Linear'
  return 'neither Linear nor BatchNorm'


def _parent(name: str) -> str:
  """The path of a tensor's layer."""
  return re.split(r'[./][^./]*$', name)[0] if re.search(r'[./]', name) else ''


def _by_number(path: str) -> list[tuple[int, str]]:
  """Sorts layer 10 after layer 2, and stays with the order of the alphabet."""
  return [
    (int(step), '') if step.isdigit() else (-1, step)
    for step in re.split(r'[./]', path)
  ]
