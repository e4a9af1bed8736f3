"""A trained encoder goes to PyTorch.

advbct convert to-pytorch WORKDIR OUT.safetensors
"""

from collections.abc import Iterable, Mapping
import dataclasses
import pathlib
from typing import Any

from flax import traverse_util
import ml_collections
import numpy as np

from advbct_jax.convert.batch_counters import expected_counters
from advbct_jax.data.images import NORMALIZATIONS
from advbct_jax.embeddings.extract import FrozenEncoder
from advbct_jax.embeddings.features import StoredFeatures
from advbct_jax.errors import InputError
from advbct_jax.models.encoder import Encoder, make_encoder
from advbct_jax.training.checkpoints import (
  encoder_options,
  load_trained,
  read_config,
)
from advbct_jax.training.head_features import read_features
from advbct_jax.training.state import TrainState
from advbct_jax.training.workdir import require_finished
from advbct_jax.weights.cards import (
  HEAD_INPUT,
  WeightsCard,
  describe_resize,
  require_ours,
  summarize_model,
)
from advbct_jax.weights.files import (
  import_torch,
  write_weights,
)
from advbct_jax.weights.hub import SAFETENSORS, card_path, find_suffix
from advbct_jax.weights.layouts import (
  LAYOUTS,
  TIMM,
  Layout,
  to_pytorch,
)

# The very names and counters that weights came in with.
ORIGINAL = 'original'
# Whose own modules hold an encoder with a given head.
_LAYOUT_OF_HEAD = {
  'batch_norm': 'published',
  'batch_norm_relu': 'published',  # a ReLU has no weights to name
  'linear': 'opencompatible',
  'none': 'timm',
}


def export_weights(
  workdir: pathlib.Path, out: pathlib.Path, layout_name: str | None = None
) -> str:
  """Writes a trained encoder as a file of weights, and its card beside it.

  Args:
    workdir: of a finished run.
    out: the file; what is there is replaced.
    layout_name: a key of `LAYOUTS`, or `ORIGINAL`; None takes the one whose
      modules have the encoder's head.

  Returns:
    What was written, as text.

  Raises:
    InputError: if the run is not finished, the layout has no place for the
      encoder, or the file cannot be written.
  """
  _require_writable(out)
  config = read_config(workdir)
  require_finished(workdir)
  layout = _choose_layout(config, layout_name)
  state = load_trained(workdir)
  flat, step = _flatten(state), int(state.step)
  trained = list(flat)
  del state  # so that taking out of `flat` frees memory
  encoder = make_encoder(**encoder_options(config.model))
  # timm's names are those of a backbone alone, but weights that came in under
  # them may have brought an embedding layer of their own.
  if 'encoder/projection' not in layout.parts:
    encoder, flat = _take_backbone(encoder, flat)
  names = {ours: layout.pytorch_name(ours) for ours in flat}
  card = _describe(
    config,
    encoder,
    flat,
    layout_name or layout.name,
    read_features(workdir, config),
  )
  counters = {
    layout.counter_name(module): count
    for module, count in _counters(config, flat, step, layout_name).items()
    if count is not None
  }
  tensors = {
    name: np.ascontiguousarray(to_pytorch(flat.pop(ours)))
    for ours, name in names.items()
    if name
  }
  tensors |= {
    name: np.asarray(count, np.int64)
    for name, count in counters.items()
    if name
  }
  card = write_weights(out, tensors, card)
  lines = [
    f'{out}: {len(tensors)} tensors under the names of {layout.name}',
    f'{card_path(out)}: its card; {summarize_model(dataclasses.asdict(card))}',
  ]
  left_out = {
    '/'.join(ours.split('/')[1:3]): None  # as a set that keeps its order
    for ours in trained
    if not names.get(ours)
  }
  if left_out:
    lines.append(f'left out, without a name there: {", ".join(left_out)}')
  usual = (config.model.width, config.model.stem) == (1, 'imagenet')
  if layout.name == TIMM.name and not usual:
    lines.append(
      f"timm's own {config.model.architecture} is wider or has another stem "
      'and does not take these; the modules in examples/ do'
    )
  return '\n'.join(lines)


def _require_writable(out: pathlib.Path) -> None:
  """Refuses a place for an export before anything is read."""
  suffix = find_suffix(out)
  if not out.parent.is_dir():
    raise InputError(
      f'{out}: no folder {out.parent}. Make it first, or choose another place.'
    )
  if out.is_dir():
    raise InputError(f'{out}: a folder; wanted: the name of a file.')
  if suffix not in SAFETENSORS:
    import_torch(out)
  require_ours(out)


def _choose_layout(
  config: ml_collections.ConfigDict, name: str | None
) -> Layout:
  """The layout of a name, or without one that of the encoder's head."""
  if name == ORIGINAL:
    if 'pytorch' not in config:
      raise InputError(
        f'--layout={name}: this encoder was trained here and came from nowhere '
        'else. Leave --layout out.'
      )
    if config.pytorch.layout is None:
      raise InputError(
        f'--layout={name}: the embedding layer of these weights was brought '
        'into another form when they came in. Leave --layout out.'
      )
    return Layout(**config.pytorch.layout.to_dict())
  head = config.model.head
  own = _LAYOUT_OF_HEAD[head]
  if name not in (None, own, TIMM.name):
    raise InputError(
      f'--layout={name}: its code has no place for the head {head}; wanted: '
      f'{own}, or timm for the backbone alone.'
    )
  return LAYOUTS[name or own]


def _counters(
  config: ml_collections.ConfigDict,
  flat: Iterable[str],
  step: int,
  layout_name: str | None,
) -> dict[str, int | None]:
  """What each BatchNorm's counter says; None for none.

  Weights that came from elsewhere keep theirs. Those that had none get the
  usual ones, which loaders insist on, but under the original names.
  """
  told = config.pytorch.counters if 'pytorch' in config else {}
  counters: dict[str, int | None] = {}
  for module, usual in expected_counters(config, flat, step).items():
    counters[module] = told.get(module, usual)
    if counters[module] is None and layout_name != ORIGINAL:
      counters[module] = usual
  return counters


def _flatten(state: TrainState) -> dict[str, np.ndarray]:
  """The variables of a state by their path in it."""
  return traverse_util.flatten_dict(
    {'params': state.params, 'batch_stats': state.batch_stats}, sep='/'
  )


def _take_backbone(
  encoder: Encoder, flat: Mapping[str, np.ndarray]
) -> tuple[Encoder, dict[str, np.ndarray]]:
  """The same encoder without its head, and the variables that it still has."""
  projection = flat.get('params/encoder/projection/kernel')
  features = encoder.dimension if projection is None else len(projection)
  return encoder.clone(head='none', dimension=features), {
    ours: array for ours, array in flat.items() if '/encoder/backbone/' in ours
  }


def _describe(
  config: ml_collections.ConfigDict,
  encoder: Encoder,
  flat: Mapping[str, np.ndarray],
  layout_name: str,
  features: StoredFeatures | None,
) -> WeightsCard:
  """The card of an encoder, but for the file that it goes into."""
  model = config.model
  tree = traverse_util.unflatten_dict(flat, sep='/')
  variables = {
    collection: parts['encoder']
    for collection, parts in tree.items()
    if 'encoder' in parts
  }
  size = 0 if features else config.data.image_size
  normalization = NORMALIZATIONS[config.data.normalization]
  whole = encoder.head == model.head
  taken: dict[str, Any] = {
    'resampling': config.data.resampling,
    'resize': describe_resize(config.data.resampling),
    'mean': normalization.mean,
    'standard_deviation': normalization.deviation,
  }
  if features:
    taken = {
      'features': features.dimension,
      'features_of': f'{features.encoder} ({features.weights})',
      'resampling': '',
      'resize': HEAD_INPUT,
      'mean': (),
      'standard_deviation': (),
      'colour_order': '',
    }
  return WeightsCard(
    file='',
    architecture=model.architecture,
    width=model.width,
    stem=model.stem,
    pooling=encoder.backbone.pooling,
    head=encoder.head,
    dimension=encoder.dimension,
    compatible_dimension=model.compatible_dimension if whole else 0,
    layout=layout_name,
    image_size=size,
    weights=FrozenEncoder(model.architecture, encoder, variables, size).digest,
    sha256='',
    training=config.get('method')
    or f'converted from {config.get("converted_from")}',
    **taken,
  )
