"""The optimiser and its learning rate."""

from collections.abc import Sequence

import optax


def learning_rate_schedule(
  base: float,
  steps_per_epoch: int,
  drop_epochs: Sequence[int],
  drop_factor: float = 0.1,
) -> optax.Schedule:
  """A learning rate that drops by a factor after given epochs.

  Args:
    base: the rate at the start.
    steps_per_epoch: the steps of an epoch.
    drop_epochs: epochs, counted from 1, after which the rate drops.
    drop_factor: what it is multiplied by.

  Returns:
    A function of the step, from 0.

  >>> rate = learning_rate_schedule(0.1, 100, (5, 10), 0.1)
  >>> [round(float(rate(step)), 4) for step in (499, 500, 1000)]
  [0.1, 0.01, 0.001]
  """
  return optax.piecewise_constant_schedule(
    base, {epoch * steps_per_epoch: drop_factor for epoch in drop_epochs}
  )


def make_optimizer(
  learning_rate: optax.ScalarOrSchedule, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
  """Stochastic gradient descent as PyTorch does it.

  Weight decay is added to the gradient, before momentum, of every parameter:
  scales, biases and the elastic boundaries too.

  Args:
    learning_rate: a rate or a schedule.
    momentum: the share of the last update that is kept.
    weight_decay: the share of a parameter that is added to its gradient.
  """
  return optax.chain(
    optax.add_decayed_weights(weight_decay),
    optax.sgd(learning_rate, momentum),
  )
