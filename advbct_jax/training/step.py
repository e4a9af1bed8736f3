"""The train step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from advbct_jax.methods.method import (
  MEMORY,
  Batch,
  Method,
  Metrics,
  OldModel,
  Progress,
)
from advbct_jax.parallel import AXIS
from advbct_jax.training.state import TrainState, trained_model
from advbct_jax.training.tie_metrics import tie_metrics

# `image` [B, H, W, 3] uint8, or [B, E] features; `label` [B], `row` [B],
# `old_embedding` [B, D_old] and `other_embeddings`, a dict of [B, D_i].
HostBatch = dict[str, Any]
# Maps [B, H, W, 3] uint8 images and [B] keys to what the encoder takes.
PrepareImages = Callable[[jax.Array, jax.Array], jax.Array]

# No row has this number, so no image is distorted by what the method draws.
_METHODS_DRAWS = 2**32 - 1


def train_step(
  state: TrainState,
  batch: HostBatch,
  old: OldModel | None,
  key: jax.Array,
  *,
  method: Method,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  prepare_images: PrepareImages,
  steps: int,
  steps_per_epoch: int,
) -> tuple[TrainState, Metrics]:
  """One update of encoder, classifier and the method's parameters together.

  It runs on every device of the mapped axis, each with its part of the batch;
  what it returns is the same on all of them, however many they are. Only where
  the classes are cut each has its own shard of what belongs to them.

  Args:
    state: before the step.
    batch: this device's part; see `HostBatch`.
    old: what is known of the old model.
    key: of all randomness in the whole training.
    method: gives the loss.
    optimizer: of all parameters.
    schedule: its learning rate by the step, for the log.
    prepare_images: augments and normalises.
    steps: the steps of the whole training.
    steps_per_epoch: the steps of an epoch.

  Returns:
    The state after the step, and scalar metrics.
  """
  step_key = jax.random.fold_in(key, state.step)
  samples = _samples(batch, step_key, prepare_images)
  progress = Progress(state.step, steps, steps_per_epoch)
  kept = {'batch_stats': state.batch_stats, MEMORY: state.memory}

  def loss_fn(params: optax.Params) -> tuple[jax.Array, tuple]:
    outcome, updated = trained_model(method).apply(
      {'params': params, **kept},
      samples,
      old,
      progress,
      mutable=[*kept],
    )
    return outcome.loss, (outcome, updated)

  losses, pull_back, (outcome, updated) = jax.vjp(
    loss_fn, state.params, has_aux=True
  )
  gradients = _average_gradients(losses, pull_back, method)
  loss, metrics, batch_stats = jax.lax.pmean(
    (
      losses.sum(),
      outcome.metrics | tie_metrics(method, outcome.embeddings, samples),
      updated.get('batch_stats', {}),
    ),
    AXIS,
  )
  updates, opt_state = optimizer.update(
    gradients, state.opt_state, state.params
  )
  params = optax.apply_updates(state.params, updates)
  metrics = {
    'loss': loss,
    **metrics,
    'learning_rate': schedule(state.step),
    'gradient_norm': method.layout.norm(gradients),
    'parameter_norm': method.layout.norm(params),
    'update_norm': method.layout.norm(updates),
  }
  memory = updated.get(MEMORY, {})
  return (
    TrainState(state.step + 1, params, batch_stats, opt_state, memory),
    metrics,
  )


def _samples(
  batch: HostBatch, key: jax.Array, prepare_images: PrepareImages
) -> Batch:
  """This device's part of the batch, as the method sees it."""
  # A key belongs to a step and an image, not to a device.
  image_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch['row'])
  return Batch(
    images=prepare_images(batch['image'], image_keys),
    labels=batch['label'],
    rows=batch['row'],
    old_embeddings=batch['old_embedding'],
    other_embeddings=batch['other_embeddings'],
    key=jax.random.fold_in(key, _METHODS_DRAWS),
  )


def _average_gradients(
  losses: jax.Array, pull_back: Callable[[jax.Array], Any], method: Method
) -> Any:
  """The gradient over all devices: of the loss, or combined of several."""
  if method.combine_gradients is None:
    (gradients,) = pull_back(jnp.ones_like(losses))
    return method.layout.mean_gradients(gradients)
  # Projections of one gradient onto another are of the whole batch's
  # gradients, so these are averaged first.
  (stacked,) = jax.vmap(pull_back)(jnp.eye(len(losses)))
  return method.combine_gradients(method.layout.mean_gradients(stacked))
