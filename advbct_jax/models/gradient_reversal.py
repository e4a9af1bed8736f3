"""Gradient reversal: forward the identity, backward the opposite."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def gradient_reversal(x: jax.Array, strength: jax.Array | float) -> jax.Array:
  """Returns `x`; its gradient comes back times −strength.

  What lies behind the reversal learns to tell; what lies before it learns to
  keep that from being told.

  Args:
    x: any array.
    strength: scalar factor λ; it gets no gradient.

  Returns:
    `x`.

  References:
    Ganin and Lempitsky, "Unsupervised domain adaptation by backpropagation",
    ICML 2015.

  >>> import jax
  >>> float(jax.grad(gradient_reversal)(3.0, 0.5))
  -0.5
  """
  del strength
  return x


def _forward(
  x: jax.Array, strength: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
  return x, jnp.asarray(strength, jnp.float32)


def _backward(
  strength: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  # A bfloat16 gradient would come back as float32, for the strength is that.
  reversed_gradient = (-strength * gradient).astype(gradient.dtype)
  return reversed_gradient, jnp.zeros_like(strength)


gradient_reversal.defvjp(_forward, _backward)
