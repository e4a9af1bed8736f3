"""Weights of PyTorch become a workdir, as if they had been trained here.

  advbct convert from-pytorch IN.safetensors WORKDIR

Float32 weights that have a place here go out again bit for bit; to-pytorch
--layout=original gives them their own names and BatchNorm's counters, too.
Half precision becomes float32. What stands on the backbone is left out if it is
a classifier of ImageNet, and asked about if it may be the embedding.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from advbct_jax.convert.batch_counters import (
  batch_norms,
  expected_counters,
  read_counters,
)
from advbct_jax.data.decoding import RESAMPLINGS
from advbct_jax.data.images import NORMALIZATIONS
from advbct_jax.data.new_folder import new_folder
from advbct_jax.errors import InputError
from advbct_jax.models.encoder import make_encoder
from advbct_jax.training.checkpoints import encoder_options
from advbct_jax.training.state import TrainState
from advbct_jax.training.workdir import write_finished
from advbct_jax.weights.architectures import (
  describe_assumptions,
  find_features,
  find_image_size,
  infer_beside_encoder,
  infer_model,
  usual_preprocessing,
)
from advbct_jax.weights.cards import WeightsCard, read_card, summarize_model
from advbct_jax.weights.embedding_layer import Settled, settle_embedding
from advbct_jax.weights.files import Tensors, read_tensors
from advbct_jax.weights.hub import card_path, locate
from advbct_jax.weights.layouts import Layout, count_groups
from advbct_jax.weights.loading import describe_match, match_tensors
from advbct_jax.weights.selection import Selection, select_encoder

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
  under: Sequence[str] = (),
  ignored: Sequence[str] = (),
  embedding: str | None = None,
  resampling: str | None = None,
) -> str:
  """Makes a workdir of a file of weights, as if they had been trained here.

  Args:
    weights: a path, `hf://OWNER/REPO/FILE` or `package://NAME`.
    workdir: a new or empty folder.
    image_size: side in pixels; None for what the card or the weights say, or
      what is usual for such weights, as for the next two.
    pooling: None for what the card or the weights say.
    normalization: a key of `NORMALIZATIONS`.
    under: names of entries of the checkpoint, or beginnings of tensors' names,
      each below the one before it; nothing else is taken.
    ignored: names of modules, or patterns of tensors' names, to leave out.
    embedding: modules that are the embedding layer; see `settle_embedding`.
    resampling: how images are squashed, a key of `RESAMPLINGS`.

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
  card = read_card(path)
  if card and card.features:
    raise InputError(
      f'{weights}: by its card a head on the stored features of '
      f'{card.features_of}, no encoder of images; wanted one of these. A head '
      'is used from its workdir.'
    )
  chosen = select_encoder(read_tensors(path), weights, under, ignored)
  if card:
    if embedding:
      raise InputError(
        f'{weights}: --embedding={embedding}, but its card '
        f'{card_path(path).name} says that the head is {card.head}. Leave '
        '--embedding out.'
      )
    normalization = normalization or _find_normalization(card, path)
    resampling = resampling or _find_resampling(card, path)
    model = {name: getattr(card, name) for name in _MODEL_FIELDS}
    settled = Settled(chosen.tensors, chosen.layout)
  else:
    settled = _settle(chosen, embedding, weights)
    model = infer_model(_shapes(settled.tensors), settled.layout, weights)
    # No name or shape tells of a ReLU, so that it was asked.
    model['head'] += '_relu' if settled.relu else ''
  tensors, layout = settled.tensors, settled.layout
  shapes = _shapes(tensors)
  model['pooling'] = pooling or model['pooling']
  bound = find_image_size(shapes, layout, weights)
  usual = usual_preprocessing(model['architecture'])
  if image_size is None:
    image_size = card.image_size if card else bound or usual['image_size']
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
  counters, uncounted = read_counters(tensors, matched, layout)
  # Of the embedding layer, which starts with the training, if there is one.
  step = counters.get('encoder/bn') or counters.get('encoder/backbone/bn1') or 0
  config = ml_collections.ConfigDict(
    {
      'converted_from': weights.rpartition('/')[2],
      'model': {**model, 'dtype': 'auto', 'init_weights': ''},
      'data': {
        'image_size': image_size,
        'normalization': normalization or usual['normalization'],
        'resampling': resampling or usual['resampling'],
      },
    }
  )
  expected = expected_counters(config, matched, step)
  config.pytorch = {
    'layout': None if settled.rewritten else dataclasses.asdict(layout),
    'counters': {
      module: count
      for module, count in counters.items()
      if count != expected[module]
    },
  }
  _write_workdir(workdir, config, matched, step)
  left_out = {**chosen.left_out, 'on the features': settled.left_out}
  assumed = [] if card else [describe_assumptions(model), settled.assumed]
  lines = [
    *_describe_tensors(tensors, matched, layout, config),
    *filter(None, assumed),
    *(
      f'left out, {reason}: {count_groups(names)}'
      for reason, names in left_out.items()
      if names
    ),
  ]
  if settled.left_out and model['head'] == 'none' and not embedding:
    lines.append('(if one of these is the embedding: --embedding=NAME)')
  if uncounted:
    lines.append(f'no counts of batches, and dropped: {", ".join(uncounted)}')
  return '\n'.join([*lines, f'{workdir}: the encoder, as of a finished run'])


def _settle(chosen: Selection, embedding: str | None, source: str) -> Settled:
  """Finds out what stands on a backbone, if there is one that is known."""
  features = find_features(_shapes(chosen.tensors), chosen.layout)
  if features is None:
    return Settled(chosen.tensors, chosen.layout)
  return settle_embedding(
    chosen.tensors, chosen.layout, features, embedding, source
  )


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
  return {name: tensor.shape for name, tensor in tensors.items()}


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


def _find_resampling(card: WeightsCard, path: pathlib.Path) -> str:
  """The filter that a card speaks of."""
  if card.resampling not in RESAMPLINGS:
    raise InputError(
      f'{card_path(path)}: these weights expect images squashed by a filter '
      f'called {card.resampling}; wanted: one of {", ".join(RESAMPLINGS)}.'
    )
  return card.resampling


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
      state = TrainState(
        step=jnp.asarray(step, jnp.int32),
        params=tree['params'],
        batch_stats=tree.get('batch_stats', {}),
        opt_state={},
      )
      inputs = {'training_images': None, 'old_side': None}
      write_finished(folder, config, state, inputs)
  except OSError as error:
    raise InputError(
      f'{workdir}: cannot be written ({error}). Make room, or choose another '
      'folder.'
    ) from error


def _describe_tensors(
  tensors: Tensors,
  matched: Mapping[str, np.ndarray],
  layout: Layout,
  config: ml_collections.ConfigDict,
) -> list[str]:
  """Lines on what was found in the weights, and where it went."""
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
    f'images are squashed to {size}×{size} ({config.data.resampling}) and '
    f'normalised as {config.data.normalization}; be sure that the weights '
    'expect it',
  ]
  if kinds:
    lines.append(f'{", ".join(sorted(kinds))} became float32')
  if unused := [name for name in tensors if name not in used]:
    lines.append(f'left out, for want of a place here: {count_groups(unused)}')
  return lines
