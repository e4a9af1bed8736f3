"""The memory of a method, renewed on the host between two epochs."""

import dataclasses
from typing import Any

import jax
import numpy as np

from advbct_jax import parallel, processes
from advbct_jax.embeddings.extract import FrozenEncoder, embed_all
from advbct_jax.methods.method import MEMORY, Memory
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
  # Made here, for what is made within a method of a module becomes its child.
  encoder = run.frozen_encoder(state)
  after: Memory = before
  with processes.first_by_itself() as here:
    if here:
      after = method.refresh(
        dict(before), run.old, lambda: _embed_training_set(run, encoder)
      )
  after = jax.tree.map(np.asarray, dict(after))
  if _described(after) != _described(before):
    raise ValueError(
      f'{type(method).__name__}.refresh gave a {MEMORY} of '
      f'{_described(after)}; wanted: {_described(before)}.'
    )
  memory = parallel.agree({'method': after})
  return dataclasses.replace(state, memory=memory)


def _embed_training_set(run: Run, encoder: FrozenEncoder) -> np.ndarray:
  """[N, D] what the encoder says of every training image, un-augmented."""
  return embed_all(
    encoder,
    run.data.load,
    batch_size=run.config.evaluation.batch_size,
    workers=run.config.data.workers,
  )


def _described(memory: Any) -> dict[str, str]:
  return {
    jax.tree_util.keystr(path): f'{leaf.dtype}{list(leaf.shape)}'
    for path, leaf in jax.tree_util.tree_leaves_with_path(memory)
  }
