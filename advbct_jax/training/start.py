"""Where the weights of a run start."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from advbct_jax.data.images import NORMALIZATIONS
from advbct_jax.embeddings.extract import FrozenEncoder
from advbct_jax.errors import InputError
from advbct_jax.models.backbones import takes_features
from advbct_jax.models.encoder import make_encoder
from advbct_jax.training.checkpoints import encoder_options
from advbct_jax.training.state import TrainState
from advbct_jax.weights.cards import read_card
from advbct_jax.weights.files import read_tensors
from advbct_jax.weights.hub import locate
from advbct_jax.weights.loading import load_encoder_variables

# Values of `config.model.init_weights` that name no file.
OLD, ALIGNED = 'old', 'aligned'
# The same of a head on stored features: see `head_start.py`.
IDENTITY, ROTATION = 'identity', 'rotation'
HEAD_STARTS = (IDENTITY, ROTATION)


@dataclasses.dataclass(frozen=True)
class Start:
  """Weights that a run starts from in the place of fresh ones.

  Attributes:
    name: where they are from, for messages.
    params: of the parts that don't start fresh, such as `encoder`.
    batch_stats: BatchNorm's statistics of the same.
    origin: a digest of the weights that they were made from, where these are
      not the old encoder's. Their own would change with the last digits of
      another machine's linear algebra, where a run shall go on as well.
  """

  name: str
  params: Any
  batch_stats: Any
  origin: str | None = None

  def put_into(self, state: TrainState) -> TrainState:
    """Replaces the parts of a fresh state.

    Raises:
      InputError: if a part has other shapes there.
    """
    return dataclasses.replace(
      state,
      params=self._replaced(state.params, self.params),
      batch_stats=self._replaced(state.batch_stats, self.batch_stats),
    )

  def _replaced(self, here: Any, there: Any) -> Any:
    # A method whose classifier is fixed has no place for another one.
    there = {part: tree for part, tree in there.items() if part in here}
    for part, tree in there.items():
      if _shapes(tree) != _shapes(here[part]):
        raise InputError(
          f'config.model.init_weights: {self.name} are of other shapes; '
          'wanted: the same config.model as theirs, or another start.'
        )
    return {**here, **there}


def old_start(encoder: FrozenEncoder | None) -> Start:
  """The weights of the old encoder.

  Args:
    encoder: None where only vectors of it are known.

  Raises:
    InputError: if there are no weights.
  """
  if encoder is None:
    raise InputError(_no_old_encoder(OLD))
  return _encoder_start("the old encoder's weights", encoder.variables)


def file_start(source: str, state: TrainState) -> Start:
  """Weights from a file of PyTorch's; what it lacks stays fresh.

  Args:
    source: a path, `hf://OWNER/REPO/FILE` or `package://NAME`.
    state: freshly drawn.

  Raises:
    InputError: if they don't fit, or the source is no file.
  """
  if source in (OLD, ALIGNED):
    raise InputError(_no_old_encoder(source))
  variables, fresh = load_encoder_variables(
    read_tensors(source), _encoder_variables(state), source
  )
  extent = f'freshly drawn: {", ".join(fresh)}' if fresh else 'all of it'
  return _encoder_start(f'{source}; {extent}', variables)


def check_start(
  config: ml_collections.ConfigDict, state: TrainState, has_old: bool
) -> None:
  """Refuses weights to start from that cannot be used.

  Args:
    config: of a run.
    state: of the right shapes; nothing else of it counts.
    has_old: whether there is or will be an old encoder.

  Raises:
    InputError: if there is no such source, or it doesn't fit.
  """
  source = config.model.init_weights
  if source in (OLD, ALIGNED):
    if not has_old:
      raise InputError(_no_old_encoder(source))
  elif source in HEAD_STARTS:
    pass  # `check_head_start` knows what the features are
  elif source and takes_features(config.model.architecture):
    raise InputError(
      f'config.model.init_weights is {source!r}, but a head on stored features '
      f'starts from no file; wanted: one of {", ".join(HEAD_STARTS)}, or '
      'nothing for a fresh one.'
    )
  elif source:
    tensors = read_tensors(source)
    _require_same_images(config, source)
    load_encoder_variables(tensors, _encoder_variables(state), source)


def _require_same_images(
  config: ml_collections.ConfigDict, source: str
) -> None:
  """Refuses weights whose card says that they see or pool otherwise."""
  card = read_card(locate(source))
  if card is None:
    return
  normalization = NORMALIZATIONS[config.data.normalization]
  encoder = make_encoder(**encoder_options(config.model))
  here = {
    'pooling': encoder.backbone.pooling,
    'mean': normalization.mean,
    'standard_deviation': normalization.deviation,
    'resampling': config.data.resampling,
  }
  there = {name: getattr(card, name) for name in here}
  if there != here:
    raise InputError(
      f'{source}: by its card these weights go with {there}, but the config '
      f'says {here}. Set config.model.pooling, config.data.normalization and '
      'config.data.resampling to those of the weights.'
    )


def _no_old_encoder(source: str) -> str:
  return (
    f'config.model.init_weights is {source!r}, but there is no old encoder '
    'with weights; wanted: a method that is tied to an old encoder, and a '
    'config.old.path that is empty or the workdir of a run.'
  )


def _encoder_variables(state: TrainState) -> dict[str, Any]:
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  return {
    collection: tree['encoder']
    for collection, tree in variables.items()
    if 'encoder' in tree  # a ViT without a head has no statistics
  }


def _encoder_start(name: str, variables: Any) -> Start:
  parts = {
    collection: {'encoder': tree} for collection, tree in variables.items()
  }
  return Start(name, parts['params'], parts.get('batch_stats', {}))


def _shapes(tree: Any) -> Any:
  return jax.tree.map(jnp.shape, tree)
