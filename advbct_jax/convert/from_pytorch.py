"""Weights of PyTorch become a workdir, as if they had been trained here.

  advbct convert from-pytorch IN.safetensors WORKDIR

Float32 weights that have a place here go out again bit for bit; to-pytorch
--layout=original gives them their own names and BatchNorm's counters, too.
Half precision becomes float32, and classifiers called fc or head are left out.
"""

import collections
from collections.abc import Iterable, Mapping
import dataclasses
import json
import pathlib
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from advbct_jax.atomic_files import write_text
from advbct_jax.convert.batch_counters import batch_norms, expected_counters
from advbct_jax.data.images import NORMALIZATIONS
from advbct_jax.data.new_folder import new_folder
from advbct_jax.errors import InputError
from advbct_jax.models.encoder import make_encoder
from advbct_jax.training.checkpoints import (
  encoder_options,
  save_state,
)
from advbct_jax.training.state import TrainState
from advbct_jax.training.workdir import claim_inputs
from advbct_jax.weights.architectures import (
  describe_assumptions,
  find_image_size,
  infer_beside_encoder,
  infer_model,
)
from advbct_jax.weights.cards import WeightsCard, read_card, summarize_model
from advbct_jax.weights.files import (
  Tensors,
  read_tensors,
)
from advbct_jax.weights.hub import card_path, locate
from advbct_jax.weights.layouts import (
  Layout,
  find_layout,
  unwrap,
)
from advbct_jax.weights.loading import describe_match, match_tensors

_DEFAULT_IMAGE_SIZE = 224
# What an error calls by its place in a config, and its name here: of a flag, or
# of a card's field.
_NAMES = {
  'config.data.image_size': '--image_size',
  'config.model.pooling': '--pooling',
  'config.model.': '',
}
_MODEL_FIELDS = (
  'architecture',
  'width',
  'stem',
  'pooling',
  'head',
  'dimension',
  'compatible_dimension',
)


def import_weights(
  weights: str,
  workdir: pathlib.Path,
  image_size: int | None = None,
  pooling: str | None = None,
  normalization: str | None = None,
) -> str:
  """Makes a workdir of a file of weights, as if they had been trained here.

  Args:
    weights: a path, or `hf://OWNER/REPO/FILE`.
    workdir: a new or empty folder.
    image_size: side in pixels; None for what the card or the weights say.
    pooling: None for what the card or the weights say.
    normalization: a key of `NORMALIZATIONS`; None for what the card says, or
      ImageNet's.

  Returns:
    What was found and where it went, as text.

  Raises:
    InputError: if the weights are damaged or of no architecture that is known,
      or the folder is in use or cannot be written.
  """
  if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
    raise InputError(
      f'{workdir}: something is there already, and nothing is ever written '
      'over. Choose another folder, or remove it.'
    )
  path = locate(weights)
  tensors, others = unwrap(read_tensors(path))
  layout = find_layout(tensors)
  shapes = {name: tensor.shape for name, tensor in tensors.items()}
  card = read_card(path)
  if card:
    normalization = normalization or _find_normalization(card, path)
    model = {name: getattr(card, name) for name in _MODEL_FIELDS}
  else:
    model = infer_model(shapes, layout, weights)
  model['pooling'] = pooling or model['pooling']
  bound = find_image_size(shapes, layout, weights)
  if image_size is None:
    image_size = card.image_size if card else bound or _DEFAULT_IMAGE_SIZE
  beside = infer_beside_encoder(shapes, layout, model['dimension'], weights)
  model.setdefault('compatible_dimension', _compatible_dimension(model, beside))
  matched = match_tensors(
    tensors,
    _encoder_shapes(model, image_size, weights) | beside,
    layout,
    f'{weights}: by its {"card" if card else "names and shapes"} it is of a '
    f'{model["architecture"]}, but the weights do not fit.',
    f'Wanted: the weights of one ({summarize_model(model)}, for images of '
    f'{image_size}×{image_size}) and nothing else.'
    + (
      f' Their position embeddings are for images of {bound}×{bound}: set '
      f'--image_size={bound}.'
      if bound and bound != image_size
      else ''
    ),
  )
  counters = _find_counters(tensors, matched, layout, weights)
  # Of the embedding layer, which starts with the training, if there is one.
  step = counters.get('encoder/bn') or counters.get('encoder/backbone/bn1') or 0
  config = ml_collections.ConfigDict(
    {
      'converted_from': weights.rpartition('/')[2],
      'model': {**model, 'dtype': 'auto', 'init_weights': ''},
      'data': {
        'image_size': image_size,
        'normalization': normalization or 'imagenet',
      },
    }
  )
  usual = expected_counters(config, matched, step)
  config.pytorch = {
    'layout': dataclasses.asdict(layout),
    'counters': {
      module: count
      for module, count in counters.items()
      if count != usual[module]
    },
  }
  _write_workdir(workdir, config, matched, step)
  assumed = '' if card else describe_assumptions(model)
  return _report(workdir, tensors, others, matched, layout, config, assumed)


def _find_normalization(card: WeightsCard, path: pathlib.Path) -> str:
  """The normalisation that a card speaks of, by its name here."""
  if card.colour_order == 'RGB':
    for name, known in NORMALIZATIONS.items():
      if (card.mean, card.standard_deviation) == (known.mean, known.deviation):
        return name
  raise InputError(
    f'{card_path(path)}: these weights expect {card.colour_order} images of '
    f'mean {card.mean} and deviation {card.standard_deviation}; wanted: RGB, '
    'and one of '
    + ', '.join(
      f'{known.mean} and {known.deviation} ({name})'
      for name, known in NORMALIZATIONS.items()
    )
    + '.'
  )


def _encoder_shapes(
  model: Mapping[str, Any], image_size: int, source: str
) -> dict[str, tuple[int, ...]]:
  """The shapes of an encoder's variables, by their path in a state."""
  if image_size < 1:
    raise InputError(f'--image_size is {image_size}; wanted: more than 0.')
  try:
    encoder = make_encoder(**encoder_options(ml_collections.ConfigDict(model)))
    variables = jax.eval_shape(
      lambda key, images: encoder.init(key, images, train=False),
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, image_size, image_size, 3), 'float32'),
    )
  except InputError as error:
    message = str(error)
    for field, name in _NAMES.items():
      message = message.replace(field, name)
    raise InputError(f'{source}: {message}') from error
  return {
    f'{collection}/encoder/{path}': leaf.shape
    for collection, tree in variables.items()
    for path, leaf in traverse_util.flatten_dict(tree, sep='/').items()
  }


def _compatible_dimension(
  model: Mapping[str, Any], beside: Mapping[str, tuple[int, ...]]
) -> int:
  """The width that the discriminator sees, 0 where that is all or unknown."""
  seen, _ = beside.get('params/method/discriminator/fc1/kernel', (0, 0))
  return seen if seen < model['dimension'] else 0


def _find_counters(
  tensors: Tensors, matched: Iterable[str], layout: Layout, source: str
) -> dict[str, int | None]:
  """What the weights tell of each BatchNorm's batches, None for nothing."""
  found: dict[str, int | None] = {}
  for module in batch_norms(matched):
    name = layout.counter_name(module)
    counter = tensors.get(name) if name else None
    if counter is None:
      found[module] = None
      continue
    whole = counter.shape == () and np.issubdtype(counter.dtype, np.integer)
    if not whole or not 0 <= counter < 2**31:
      raise InputError(
        f'{source}: {name} is {counter!r}; wanted: a count from 0 to 2³¹ − 1. '
        'The file is damaged; take another one.'
      )
    found[module] = int(counter)
  return found


def _write_workdir(
  workdir: pathlib.Path,
  config: ml_collections.ConfigDict,
  flat: Mapping[str, np.ndarray],
  step: int,
) -> None:
  """Writes what a finished run leaves; it appears whole or not at all."""
  tree = traverse_util.unflatten_dict(flat, sep='/')
  place = workdir.absolute()  # the current folder has no name of its own
  try:
    if place.exists():
      place.rmdir()  # empty, it may be taken
    with new_folder(place) as folder:
      config_text = json.dumps(config.to_dict(), indent=2)
      write_text(folder / 'config.json', config_text + '\n')
      claim_inputs(
        folder,
        {'steps': step, 'training_images': None, 'old_side': None},
      )
      save_state(
        folder,
        TrainState(
          step=jnp.asarray(step, jnp.int32),
          params=tree['params'],
          batch_stats=tree.get('batch_stats', {}),
          opt_state={},
        ),
      )
  except OSError as error:
    raise InputError(
      f'{workdir}: cannot be written ({error}). Make room, or choose another '
      'folder.'
    ) from error


def _report(
  workdir: pathlib.Path,
  tensors: Tensors,
  others: list[str],
  matched: Mapping[str, np.ndarray],
  layout: Layout,
  config: ml_collections.ConfigDict,
  assumed: str,
) -> str:
  """What was found in the weights, and where it went."""
  size = config.data.image_size
  position = {name: number for number, name in enumerate(tensors)}
  names = {ours: str(layout.pytorch_name(ours)) for ours in matched}
  in_order = sorted(names, key=lambda ours: position[names[ours]])
  used = {*names.values(), *map(layout.counter_name, batch_norms(matched))}
  kinds = {tensors[name].dtype.name for name in names.values()} - {'float32'}
  lines = [
    describe_match(tensors, in_order, layout),
    '',
    f'names of {layout.name}: {summarize_model(config.model)}',
    f'images are squashed to {size}×{size} and normalised as '
    f'{config.data.normalization}; be sure that the weights expect it',
  ]
  if assumed:
    lines.append(assumed)
  if kinds:
    lines.append(f'{", ".join(sorted(kinds))} became float32')
  if unused := [name for name in tensors if name not in used]:
    lines.append(f'left out, for want of a place here: {_count_groups(unused)}')
  if others:
    lines.append(f'left out, of the old model: {_count_groups(others)}')
  return '\n'.join([*lines, f'{workdir}: the encoder, as of a finished run'])


def _count_groups(names: Iterable[str]) -> str:
  """Says how many names there are of each module.

  >>> _count_groups(['fc.weight', 'fc.bias', 'scale'])
  'fc (2), scale (1)'
  """
  counts = collections.Counter(name.partition('.')[0] for name in names)
  return ', '.join(f'{group} ({count})' for group, count in counts.items())
