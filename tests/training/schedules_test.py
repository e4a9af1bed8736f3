import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advbct_jax.training.schedules import (
  learning_rate_schedule,
  make_optimizer,
)


@pytest.mark.parametrize(
  ('step', 'wanted'),
  [(0, 0.1), (19, 0.1), (20, 0.05), (27, 0.05), (28, 0.025), (1000, 0.025)],
)
def test_the_rate_drops_after_whole_epochs(step, wanted):
  rate = learning_rate_schedule(
    0.1, 4, epochs=30, drop_epochs=(5, 7), drop_factor=0.5
  )

  assert float(rate(step)) == pytest.approx(wanted, rel=1e-6)


def test_the_rate_stays_without_drop_epochs():
  assert float(
    learning_rate_schedule(0.3, 4, epochs=30, drop_epochs=())(999)
  ) == pytest.approx(0.3)


def test_updates_are_those_of_torch_sgd():
  # torch.optim.SGD([tensor([1., -2.])], 0.1, momentum=0.9, weight_decay=0.5)
  # with the gradient [1, 0] at both steps:
  #   v = [1.5, -1], p = [0.85, -1.9]; v = [2.775, -1.85], p = [0.5725, -1.715].
  optimizer = make_optimizer(0.1, 0.9, 0.5)
  params = {'bias': jnp.array([1.0, -2.0])}
  state = optimizer.init(params)
  gradients = {'bias': jnp.array([1.0, 0.0])}

  for wanted in ([0.85, -1.9], [0.5725, -1.715]):
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params['bias'], wanted, rtol=1e-6)
