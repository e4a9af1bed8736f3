"""An affine map that may leave the rotations by so much and no more.

References:
  Ricci et al., "λ-orthogonality regularization for compatible representation
  learning", NeurIPS 2025: the penalty below, λ 12 beside embeddings. With λ = 0
  it draws towards the rotations, of which `procrustes` is the best one.
"""

import functools
from typing import Any

import jax
from jax import numpy as jnp
import numpy as np
import optax

from advbct_jax.adapters import ridge
from advbct_jax.adapters.pairs import Pairs
from advbct_jax.adapters.procrustes import nearest_rotation
from advbct_jax.errors import InputError


def fit(
  pairs: Pairs,
  seed: int,
  *,
  threshold: float,
  sharpness: float,
  steps: int,
  learning_rate: float,
) -> dict[str, np.ndarray]:
  """Descends mean‖xW + b − y‖² + σ(α(n − λ))·n, n = ‖WWᵀ − I‖_F, by Adam.

  Where W is not square, the smaller of WWᵀ and WᵀW is meant. It starts at the
  rotation. The squared error is known from sums over all pairs, so that a step
  takes all of them at the cost of none, and nothing is random.

  Args:
    pairs: N pairs of width D and D_target.
    seed: nothing is random here.
    threshold: λ, the distance from the rotations that is free.
    sharpness: α, how suddenly it is free no more.
    steps: of Adam.
    learning_rate: of Adam; it falls to zero along a cosine.

  Returns:
    `weights` [D, D_target] and `bias` [D_target].

  Raises:
    InputError: if an option is out of range.
  """
  del seed
  if threshold < 0 or steps < 1 or not min(sharpness, learning_rate) > 0:
    raise InputError(
      f'lambda_orthogonal: threshold {threshold}, sharpness {sharpness}, '
      f'{steps} steps and learning_rate {learning_rate} were asked for; '
      'wanted: a threshold of at least 0, at least 1 step, and the others '
      'above 0.'
    )
  sums, _ = ridge.sum_pairs(pairs, np.zeros(pairs.new.card.count, bool))
  mean_x, mean_y = sums.x / sums.count, sums.y / sums.count
  # For any W the best b is known, which leaves the centred sums.
  variance = sums.xx / sums.count - np.outer(mean_x, mean_x)
  covariance = sums.xy / sums.count - np.outer(mean_x, mean_y)
  start = nearest_rotation(sums.xy)[:, : pairs.target_width]
  weights = np.asarray(
    _descend(
      *(jnp.asarray(a, jnp.float32) for a in (start, variance, covariance)),
      threshold,
      sharpness,
      learning_rate,
      steps=steps,
    )
  )
  return {
    'weights': weights,
    'bias': (mean_y - mean_x @ weights).astype(np.float32),
  }


def measure_loss(
  weights: jax.Array,
  variance: jax.Array,
  covariance: jax.Array,
  threshold: float,
  sharpness: float,
) -> jax.Array:
  """The loss [], less the variance of y, which no map changes.

  Args:
    weights: [D, D_target] W.
    variance: [D, D] of x.
    covariance: [D, D_target] of x and y.
    threshold: λ.
    sharpness: α.
  """
  with jax.default_matmul_precision('highest'):
    error = jnp.sum(weights * (variance @ weights - 2 * covariance))
    narrow = weights if weights.shape[0] > weights.shape[1] else weights.T
    gram = narrow.T @ narrow - jnp.eye(narrow.shape[1])
  # The root of zero, where it starts, has no gradient.
  distance = jnp.sqrt(jnp.sum(jnp.square(gram)) + 1e-12)
  return error + distance * jax.nn.sigmoid(sharpness * (distance - threshold))


@functools.partial(jax.jit, static_argnames='steps')
def _descend(
  weights: jax.Array,
  variance: jax.Array,
  covariance: jax.Array,
  threshold: float,
  sharpness: float,
  learning_rate: float,
  *,
  steps: int,
) -> jax.Array:
  optimizer = optax.adam(
    lambda step: learning_rate * (1 + jnp.cos(jnp.pi * step / steps)) / 2
  )

  def take_step(carried: Any, _: Any) -> tuple[Any, None]:
    weights, state = carried
    gradient = jax.grad(measure_loss)(
      weights, variance, covariance, threshold, sharpness
    )
    updates, state = optimizer.update(gradient, state)
    return (optax.apply_updates(weights, updates), state), None

  (weights, _), _ = jax.lax.scan(
    take_step, (weights, optimizer.init(weights)), length=steps
  )
  return weights
