"""The optimiser and its learning rate."""

from collections.abc import Sequence

import jax.numpy as jnp
import optax

OPTIMIZERS = ('sgd', 'adamw')
SCHEDULES = ('drops', 'cosine')


def learning_rate_schedule(
  base: float,
  steps_per_epoch: int,
  *,
  epochs: int,
  schedule: str = 'drops',
  drop_epochs: Sequence[int] = (),
  drop_factor: float = 0.1,
  warmup_epochs: float = 0,
) -> optax.Schedule:
  """A learning rate by the step.

  Args:
    base: the rate at its highest.
    steps_per_epoch: the steps of an epoch.
    epochs: of the whole training.
    schedule: `drops`, by a factor after given epochs, or `cosine`, from the
      base down to 0.
    drop_epochs: epochs, counted from 1, after which the rate drops.
    drop_factor: what it is multiplied by.
    warmup_epochs: for so long the rate rises linearly to what it would be; a
      part of an epoch will do.

  Returns:
    A function of the step, from 0.

  >>> rate = learning_rate_schedule(
  ...   0.1, 100, epochs=15, drop_epochs=(5, 10), drop_factor=0.1
  ... )
  >>> [round(float(rate(step)), 4) for step in (499, 500, 1000)]
  [0.1, 0.01, 0.001]
  >>> rate = learning_rate_schedule(
  ...   0.1, 100, epochs=11, schedule='cosine', warmup_epochs=1
  ... )
  >>> [round(float(rate(step)), 4) for step in (0, 49, 99, 600, 1100)]
  [0.001, 0.05, 0.1, 0.05, 0.0]
  """
  warmup = round(warmup_epochs * steps_per_epoch)
  if schedule == 'cosine':
    rate = optax.cosine_decay_schedule(
      base, max(epochs * steps_per_epoch - warmup, 1)
    )
    # The cosine begins where the warm-up ends.
    rate = optax.join_schedules([optax.constant_schedule(base), rate], [warmup])
  else:
    rate = optax.piecewise_constant_schedule(
      base, {epoch * steps_per_epoch: drop_factor for epoch in drop_epochs}
    )
  if not warmup:
    return rate
  # The first step must move something, so it is not at a rate of 0.
  return lambda step: rate(step) * jnp.minimum((step + 1) / warmup, 1)


def make_optimizer(
  learning_rate: optax.ScalarOrSchedule,
  momentum: float,
  weight_decay: float,
  name: str = 'sgd',
) -> optax.GradientTransformation:
  """An optimiser of every parameter: scales, biases and boundaries too.

  Args:
    learning_rate: a rate or a schedule.
    momentum: of `sgd`, the share of the last update that is kept.
    weight_decay: of `sgd` the share of a parameter that is added to its
      gradient, before momentum, as PyTorch does it; of `adamw` the share that
      is taken off beside the gradient.
    name: `sgd` or `adamw`.
  """
  if name == 'adamw':
    return optax.adamw(learning_rate, weight_decay=weight_decay)
  return optax.chain(
    optax.add_decayed_weights(weight_decay),
    optax.sgd(learning_rate, momentum),
  )
