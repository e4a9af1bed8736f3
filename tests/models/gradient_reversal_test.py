import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.models.gradient_reversal import gradient_reversal

X = jnp.array([1.0, -2.0, 0.5])


def _reversed_square(x, strength):
  return (gradient_reversal(x, strength) ** 2).sum()


@pytest.mark.parametrize('strength', [0.0, 0.25, 1.0, 7.0])
def test_forward_it_changes_nothing(strength):
  np.testing.assert_array_equal(gradient_reversal(X, strength), X)


@pytest.mark.parametrize(
  ('strength', 'gradient'),
  [(1.0, [-2, 4, -1]), (0.25, [-0.5, 1, -0.25]), (0.0, [0, 0, 0])],
)
def test_backward_the_gradient_of_a_square_is_minus_strength_times_twice_x(
  strength, gradient
):
  np.testing.assert_allclose(jax.grad(_reversed_square)(X, strength), gradient)


def test_the_strength_gets_no_gradient():
  assert float(jax.grad(_reversed_square, argnums=1)(X, 0.25)) == 0


def test_a_traced_strength_reverses_under_jit():
  gradient = jax.jit(jax.grad(_reversed_square))(X, jnp.asarray(0.25))
  np.testing.assert_allclose(gradient, [-0.5, 1, -0.25])


def test_under_vmap_each_row_has_its_own_strength():
  gradients = jax.vmap(jax.grad(_reversed_square))(
    jnp.stack([X, X]), jnp.array([0.25, 1.0])
  )
  np.testing.assert_allclose(gradients, [[-0.5, 1, -0.25], [-2, 4, -1]])


def test_bfloat16_stays_bfloat16_both_ways():
  x = X.astype(jnp.bfloat16)
  assert gradient_reversal(x, 0.25).dtype == jnp.bfloat16
  gradient = jax.grad(_reversed_square)(x, jnp.float32(0.25))
  assert gradient.dtype == jnp.bfloat16
  np.testing.assert_array_equal(gradient.astype(float), [-0.5, 1, -0.25])
