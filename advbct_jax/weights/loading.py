"""Weights under PyTorch's names become variables of ours."""

from collections.abc import Collection, Iterable, Mapping
import re
from typing import Any

from flax import traverse_util
import jax.numpy as jnp
import numpy as np

from advbct_jax.errors import InputError
from advbct_jax.weights.files import Tensors
from advbct_jax.weights.layouts import (
  COUNTER,
  Layout,
  find_layout,
  pytorch_shape,
  to_flax,
  unwrap,
)

# What weights may bring that there is no place for: classifiers of their own
# classes, the published discriminator and boundaries, batch counters.
_OPTIONAL = re.compile(
  r'^(fc|head|projection_cls|fc_classif(y|ier)|discriminator|eboundary)\.'
  rf'|(^|\.){COUNTER}$'
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
  tensors, _ = unwrap(tensors)
  layout = find_layout(tensors)
  projection = layout.parts.get('encoder/projection')
  backbone_only = f'{projection}.weight' not in tensors
  fresh = [
    ours for ours in flat if backbone_only and '/backbone/' not in f'/{ours}'
  ]
  loaded = match_tensors(
    tensors,
    {
      _in_state(ours): value.shape
      for ours, value in flat.items()
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
  listed = (
    _listed('missing', set(names.values()) - set(tensors))
    + _listed(
      'left over',
      [
        name
        for name in tensors.keys() - set(names.values())
        if not _OPTIONAL.search(name)
      ],
    )
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
