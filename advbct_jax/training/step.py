"""The train step."""

from collections.abc import Callable

import jax
import optax

from advbct_jax.methods.method import Metrics, OldModel, Progress
from advbct_jax.parallel import AXIS
from advbct_jax.training.state import TrainedModel, TrainState

Batch = dict[str, jax.Array]
# Maps [B, H, W, 3] uint8 images and [B] keys to what the encoder takes.
PrepareImages = Callable[[jax.Array, jax.Array], jax.Array]


def train_step(
  state: TrainState,
  batch: Batch,
  old: OldModel | None,
  key: jax.Array,
  *,
  model: TrainedModel,
  optimizer: optax.GradientTransformation,
  prepare_images: PrepareImages,
  steps: int,
  steps_per_epoch: int,
) -> tuple[TrainState, Metrics]:
  """One update of encoder, classifier and the method's parameters together.

  It runs on every device of the mapped axis, each with its part of the batch;
  what it returns is the same on all of them, however many they are.

  Args:
    state: before the step.
    batch: `image` [B, H, W, 3] uint8, `label` [B], `old_embedding` [B, D], and
      `row` [B], the images' positions in the training set.
    old: what is known of the old model.
    key: of all randomness in the whole training.
    model: what is trained.
    optimizer: of all its parameters.
    prepare_images: augments and normalises.
    steps: the steps of the whole training.
    steps_per_epoch: the steps of an epoch.

  Returns:
    The state after the step, and scalar metrics.
  """
  # A key belongs to a step and an image, not to a device.
  step_key = jax.random.fold_in(key, state.step)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, batch['row'])
  images = prepare_images(batch['image'], keys)
  progress = Progress(state.step, steps, steps_per_epoch)

  def loss_fn(params: optax.Params) -> tuple[jax.Array, tuple]:
    (loss, metrics), updated = model.apply(
      {'params': params, 'batch_stats': state.batch_stats},
      images,
      batch['label'],
      batch['old_embedding'],
      old,
      progress,
      mutable=['batch_stats'],
    )
    return loss, (metrics, updated['batch_stats'])

  gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, (metrics, batch_stats)), gradients = gradient_fn(state.params)
  loss, metrics, batch_stats, gradients = jax.lax.pmean(
    (loss, metrics, batch_stats, gradients), AXIS
  )
  updates, opt_state = optimizer.update(
    gradients, state.opt_state, state.params
  )
  params = optax.apply_updates(state.params, updates)
  metrics = {
    'loss': loss,
    **metrics,
    'gradient_norm': optax.tree.norm(gradients),
    'parameter_norm': optax.tree.norm(params),
    'update_norm': optax.tree.norm(updates),
  }
  return TrainState(state.step + 1, params, batch_stats, opt_state), metrics
