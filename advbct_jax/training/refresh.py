"""The memory of a method, renewed on the host between two epochs."""

import dataclasses
from typing import Any

import jax
import numpy as np

from advbct_jax import parallel
from advbct_jax.embeddings.extract import FrozenEncoder, embed_all
from advbct_jax.methods.method import MEMORY, Memory
from advbct_jax.models.encoder import make_encoder
from advbct_jax.training.checkpoints import encoder_options
from advbct_jax.training.run import Run
from advbct_jax.training.state import TrainState


def refresh_due(run: Run, step: int) -> bool:
  """Whether the memory is renewed before the step after this one.

  Args:
    run: whose method says at which epochs.
    step: the steps done.
  """
  epoch, within = divmod(step, run.steps_per_epoch)
  return not within and epoch in run.method(axis_name=None).refresh_epochs


def refresh_memory(run: Run, state: TrainState) -> TrainState:
  """Has the method renew what it keeps.

  It follows from the state alone, so a run that is killed meanwhile and goes on
  from the checkpoint before does it again with the same result.

  Args:
    run: whose method it is.
    state: after the last step of an epoch.

  Returns:
    The state with the new memory, on all devices.

  Raises:
    ValueError: if the new memory has other names, shapes or types.
  """
  assert run.old is not None
  before: Memory = jax.device_get(state.memory.get('method', {}))
  method = run.method(axis_name=None)
  after = method.refresh(
    dict(before), run.old, lambda: embed_training_set(run, state)
  )
  after = jax.tree.map(np.asarray, dict(after))
  if _described(after) != _described(before):
    raise ValueError(
      f'{type(method).__name__}.refresh gave a {MEMORY} of '
      f'{_described(after)}; wanted: {_described(before)}.'
    )
  memory = parallel.replicate({'method': after})
  return dataclasses.replace(state, memory=memory)


def embed_training_set(run: Run, state: TrainState) -> np.ndarray:
  """What the encoder says by now of every training image.

  Args:
    run: that is trained.
    state: of it.

  Returns:
    [N, D] float32 of un-augmented images, in the order of the image set.
  """
  config, load = run.config, run.data.load
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  options = encoder_options(config.model) | {'dtype': config.evaluation.dtype}
  encoder = FrozenEncoder(
    name=config.model.architecture,
    module=make_encoder(**options),
    variables={
      collection: tree['encoder']
      for collection, tree in variables.items()
      if 'encoder' in tree
    },
    image_size=load.size,
    normalization=config.data.normalization,
  )
  return embed_all(
    encoder,
    load,
    batch_size=config.evaluation.batch_size,
    workers=config.data.workers,
  )


def _described(memory: Any) -> dict[str, str]:
  return {
    jax.tree_util.keystr(path): f'{leaf.dtype}{list(leaf.shape)}'
    for path, leaf in jax.tree_util.tree_leaves_with_path(memory)
  }
