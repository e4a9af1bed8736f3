"""Weights under PyTorch's names become variables of ours."""

from collections.abc import Collection, Iterable, Mapping
import re
from typing import Any

from flax import traverse_util
import jax.numpy as jnp
import numpy as np

from advbct_jax.errors import InputError
from advbct_jax.weights.architectures import find_features
from advbct_jax.weights.beside_backbone import find_standing
from advbct_jax.weights.embedding_layer import NONE, Settled, settle_embedding
from advbct_jax.weights.files import Tensors
from advbct_jax.weights.layouts import (
  COUNTER,
  Layout,
  pytorch_shape,
  to_flax,
)
from advbct_jax.weights.selection import Selection, select_encoder

# What weights may bring that there is no place for: the published classifiers,
# discriminator and boundaries, batch counters, and what lay in another entry of
# the checkpoint.
_OPTIONAL = re.compile(
  r'(^|\.)(projection_cls|fc_classif(y|ier)|discriminator|eboundary)\.'
  rf'|(^|\.){COUNTER}$|/'
)


def load_encoder_variables(
  tensors: Tensors, variables: Any, source: str
) -> tuple[Any, list[str]]:
  """Puts PyTorch weights into an encoder's variables.

  Either the whole encoder is loaded, or its whole backbone where the weights
  have no embedding layer, as ImageNet's have none; nothing in between.

  Args:
    tensors: arrays by PyTorch name, in any of the `LAYOUTS`.
    variables: `params` and `batch_stats` of an `Encoder`, freshly drawn.
    source: what the weights are called in errors.

  Returns:
    The variables with the weights in them, and the names of ours that the
    weights had nothing for, which stay freshly drawn.

  Raises:
    InputError: if a weight is missing, left over, of another shape or not
      finite.
  """
  flat = traverse_util.flatten_dict(variables, sep='/')
  # Layouts know leaves by their place in a whole state, of which the encoder is
  # a part.
  wanted = {_in_state(ours): value.shape for ours, value in flat.items()}
  chosen = select_encoder(tensors, source)
  settled = _find_embedding(chosen, wanted, source)
  tensors, layout = settled.tensors, settled.layout
  projection = layout.parts.get('encoder/projection')
  backbone_only = f'{projection}.weight' not in tensors
  fresh = [
    ours for ours in flat if backbone_only and '/backbone/' not in f'/{ours}'
  ]
  loaded = match_tensors(
    tensors,
    {
      _in_state(ours): wanted[_in_state(ours)]
      for ours in flat
      if ours not in fresh
    },
    layout,
    f'{source}: these weights are not those of the configured encoder.',
    'Set config.model.architecture, width, stem, pooling, head and dimension '
    "to those of the weights, and config.data.image_size for a ViT's.",
  )
  for ours in flat.keys() - set(fresh):
    flat[ours] = loaded[_in_state(ours)].astype(flat[ours].dtype)
  return {**variables, **traverse_util.unflatten_dict(flat, sep='/')}, fresh


def _find_embedding(
  chosen: Selection, wanted: Mapping[str, tuple[int, ...]], source: str
) -> Settled:
  """Takes what stands on the backbone if it has the shapes of the wanted head.

  Else it is left out unasked: a training that starts from a backbone draws its
  head afresh, and says so.
  """
  tensors, layout = chosen.tensors, chosen.layout
  shapes = {name: tensor.shape for name, tensor in tensors.items()}
  features = find_features(shapes, layout)
  if features is None:
    return Settled(tensors, layout)
  if f'{layout.parts.get("encoder/projection")}.weight' in tensors:
    return settle_embedding(tensors, layout, features, None, source)
  head = {
    ours: shape for ours, shape in wanted.items() if '/backbone/' not in ours
  }
  for module in find_standing(tensors, layout, features) if head else ():
    try:
      found = settle_embedding(tensors, layout, features, module, source)
    except InputError:
      continue
    names = {ours: found.layout.pytorch_name(ours) or '' for ours in head}
    if all(
      name in found.tensors
      and found.tensors[name].shape == pytorch_shape(head[ours])
      for ours, name in names.items()
    ):
      return found
  return settle_embedding(tensors, layout, features, NONE, source)


def match_tensors(
  tensors: Tensors,
  shapes: Mapping[str, tuple[int, ...]],
  layout: Layout,
  complaint: str,
  advice: str,
) -> dict[str, np.ndarray]:
  """Finds the tensor of each of our variables.

  Args:
    tensors: arrays by PyTorch name, without wrappers.
    shapes: of our variables, by their path in a training state.
    layout: whose names the tensors have.
    complaint: how an error begins; it names the weights.
    advice: how an error ends.

  Returns:
    Views of the tensors in Flax's axes by our names; in float32, whatever they
    were in.

  Raises:
    InputError: if a tensor is missing, left over, of another shape, not a
      floating-point number or not finite; it lists all of them.
  """
  names = {ours: layout.pytorch_name(ours) or ours for ours in shapes}
  present = {ours: name for ours, name in names.items() if name in tensors}
  left_over = [
    name
    for name in tensors.keys() - set(names.values())
    if not _OPTIONAL.search(name)
  ]
  listed = (
    _listed('missing', set(names.values()) - set(tensors))
    + _listed('left over', left_over)
    + _hint_to_ignore(left_over, names.values())
    + _listed(
      'of another shape',
      [
        f'{name} is {tensors[name].shape}, wanted {pytorch_shape(shapes[ours])}'
        for ours, name in present.items()
        if tensors[name].shape != pytorch_shape(shapes[ours])
      ],
    )
    + _listed(
      'no floating-point numbers',
      [
        f'{name} is {tensors[name].dtype}'
        for name in present.values()
        if not jnp.issubdtype(tensors[name].dtype, jnp.floating)
      ],
    )
  )
  if listed:
    raise InputError(f'{complaint}{listed}\n{advice}')
  # Last, since it reads all of a mapped file, and only of what is taken: what
  # is left out may be as it likes.
  if damaged := [
    name for name in present.values() if not np.isfinite(tensors[name]).all()
  ]:
    raise InputError(
      f'{complaint}{_listed("NaN or infinite in places", damaged)}\nTheir '
      'training has diverged or the file is damaged; take another one.'
    )
  return {
    ours: to_flax(tensors[name]).astype(np.float32, copy=False)
    for ours, name in present.items()
  }


def describe_match(
  tensors: Tensors, matched: Iterable[str], layout: Layout
) -> str:
  """Tables which tensors went where, a line a stage or layer.

  Args:
    tensors: arrays by PyTorch name, without wrappers.
    matched: the paths of our variables that have got one.
    layout: whose names the tensors have.

  Returns:
    A text of several lines.
  """
  groups: dict[tuple[str, str], list[np.ndarray]] = {}
  for ours in matched:
    name = str(layout.pytorch_name(ours))
    groups.setdefault(_group(ours, name, layout), []).append(tensors[name])
  rows = [('in the file', 'here', 'tensors', 'values', 'shape')]
  for (theirs, ours), arrays in groups.items():
    kernels = [array for array in arrays if array.ndim > 1]
    shape = '×'.join(map(str, kernels[0].shape)) if len(kernels) == 1 else ''
    values = sum(array.size for array in arrays)
    rows.append((theirs, ours, f'{len(arrays)}', f'{values:,}', shape))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    f'{theirs:<{widths[0]}}  {ours:<{widths[1]}}  {count:>{widths[2]}}  '
    f'{values:>{widths[3]}}  {shape}'.rstrip()
    for theirs, ours, count, values, shape in rows
  )


def _group(ours: str, name: str, layout: Layout) -> tuple[str, str]:
  """The stage or layer that a tensor belongs to, there and here."""
  _, *path = ours.split('/')
  if path[:2] == ['encoder', 'backbone']:
    theirs = name.removeprefix(layout.backbone).partition('.')[0]
    return layout.backbone + theirs, '/'.join(
      [*path[:2], re.sub(r'_\d+$', '_*', path[2])]
    )
  return name.partition('.')[0], '/'.join(path[:2])


def _hint_to_ignore(left_over: Iterable[str], wanted: Iterable[str]) -> str:
  """Says by what flag tensors are left out, with all of their modules."""
  inside = {
    name[: step.start()] for name in wanted for step in re.finditer(r'\.', name)
  }
  modules = set()
  for name in left_over:
    steps = name.split('.')
    module = steps.pop(0)
    while module in inside and steps:
      module += '.' + steps.pop(0)
    modules.add(module)
  if not modules:
    return ''
  listed = ','.join(sorted(modules)) if len(modules) <= 5 else 'NAMES'
  return (
    '\n    if embeddings do not depend on these: from-pytorch '
    f'--ignore={listed}'
  )


def _in_state(ours: str) -> str:
  """The path in a training state of one of an encoder's variables."""
  collection, path = ours.split('/', 1)
  return f'{collection}/encoder/{path}'


def _listed(title: str, names: Collection[str]) -> str:
  if not names:
    return ''
  shown = '\n    '.join(sorted(names)[:10])
  more = f'\n    … ({len(names)} in all)' if len(names) > 10 else ''
  return f'\n  {title}:\n    {shown}{more}'
