"""Where a head on stored features starts: the features, turned or as they are.

A frozen encoder is good already, and orthogonal Procrustes already brings it
near the old one at no cost to itself; a head that starts fresh has to find both
again from far fewer examples.
"""

import numpy as np

from advbct_jax.adapters.procrustes import procrustes_rotation, require_widths
from advbct_jax.embeddings.features import FeatureRows
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.training.run import Run
from advbct_jax.training.start import ROTATION, Start

# Of the encoder's BatchNorm.
_EPSILON = 1e-5
# More tell a rotation of 1,000 components hardly better, and take memory.
_MOST_PAIRS = 2**17


def head_start(run: Run) -> Start:
  """Makes the start that a config names, `identity` or `rotation`.

  The perceptron of `features_mlp` adds nothing at its fresh start, so the whole
  head then is the projection. BatchNorm, where there is one, undoes in
  evaluation what it does to the training features.

  Args:
    run: of a head `linear` or `batch_norm`.

  Returns:
    The fresh encoder with its projection replaced.

  Raises:
    InputError: if the old embeddings are wider than the features.
  """
  load = run.data.load
  assert isinstance(load, FeatureRows)
  rows = run.data.rows
  if len(rows) > _MOST_PAIRS:
    random = np.random.default_rng(run.config.seed)
    rows = np.sort(random.choice(rows, _MOST_PAIRS, replace=False))
  width = run.features.dimension if run.features else 0
  # As long as the backbone hands them on.
  features = unit_rows(load(rows)['image']) * np.sqrt(np.float32(width))
  turned = np.eye(width)
  if run.config.model.init_weights == ROTATION:
    assert run.old is not None
    turned = procrustes_rotation(features, run.old.embeddings[rows])
  kernel = turned[:, : run.config.model.dimension].astype(np.float32)
  state = run.fresh_state()
  encoder = {**state.params['encoder'], 'projection': {'kernel': kernel}}
  batch_stats = {}
  if 'bn' in encoder:
    embeddings = features @ kernel
    mean, variance = embeddings.mean(axis=0), embeddings.var(axis=0)
    encoder['bn'] = {'scale': np.sqrt(variance + _EPSILON), 'bias': mean}
    batch_stats['encoder'] = {'bn': {'mean': mean, 'var': variance}}
  else:
    encoder['projection']['bias'] = np.zeros(kernel.shape[1], np.float32)
  where = 'the features as they are'
  if run.config.model.init_weights == ROTATION:
    where = 'the features, turned onto the old embeddings'
  return Start(where, {'encoder': encoder}, batch_stats)


def check_head_start(run: Run) -> None:
  """Refuses a start that the features, or the old embeddings, don't allow.

  Args:
    run: whose old side may be all zero.

  Raises:
    InputError: saying which width is wanted.
  """
  model = run.config.model
  where = f'config.model.init_weights is {model.init_weights!r}'
  if run.features is None or model.head not in ('linear', 'batch_norm'):
    raise InputError(
      f'{where}, but config.model.architecture is {model.architecture!r} and '
      f'config.model.head is {model.head!r}; wanted: features or features_mlp, '
      'with the head linear or batch_norm.'
    )
  width = run.features.dimension
  if model.dimension > width:
    raise InputError(
      f'{where}, but config.model.dimension is {model.dimension} and the '
      f'features have {width}; wanted: at most as many.'
    )
  if model.init_weights == ROTATION:
    if run.old is None:
      raise InputError(
        f'{where}, but {run.config.method} knows no old encoder to turn the '
        "features onto; wanted: a method that is tied to one, or 'identity'."
      )
    require_widths(width, run.old.embeddings.shape[1])
