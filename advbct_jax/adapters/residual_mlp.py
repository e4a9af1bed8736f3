"""A linear map and a hidden layer beside it, trained for cosine similarity.

It starts as the ridge map, since what the hidden layer adds is zero at first.

References:
  Wang et al., "Unified representation learning for cross model compatibility",
  BMVC 2020, map between stored vectors by residual bottleneck blocks.
"""

import functools
from typing import Any

import jax
from jax import numpy as jnp
import numpy as np
import optax

from advbct_jax.adapters import ridge
from advbct_jax.adapters.pairs import Pairs
from advbct_jax.errors import InputError

# Pairs in memory while it trains, more than its steps see by default: 2 GiB at
# 1024 float32 a vector. The ridge map is fitted to all.
MAX_PAIRS = 2**18
_MEASURED_EVERY = 50


def fit(
  pairs: Pairs,
  seed: int,
  *,
  penalty: float | None,
  hidden: int,
  steps: int,
  batch_size: int,
  learning_rate: float,
) -> dict[str, np.ndarray]:
  """Trains the map by Adam on 1 − cos(map(x), y).

  A tenth of the images is held out. Every 50 steps the map is measured on them,
  and the best one is kept, be it the start.

  Args:
    pairs: N pairs of width D and D_target.
    seed: of the held-out images, the hidden layer's start and the batches.
    penalty: of the ridge map that it starts from; see `ridge.fit`.
    hidden: width H of the hidden layer; 0 for 2·D.
    steps: how many batches it trains on.
    batch_size: pairs a batch.
    learning_rate: of Adam; it falls to zero along a cosine.

  Returns:
    `weights` [D, D_target], `bias` [D_target], `hidden_weights` [D, H],
    `hidden_bias` [H] and `out_weights` [H, D_target].

  Raises:
    InputError: if the penalty, the hidden width, the steps, the batch size or
      the learning rate is out of range.
  """
  if min(steps, batch_size) < 1 or hidden < 0 or not learning_rate > 0:
    raise InputError(
      f'residual_mlp: {steps} steps, batch_size {batch_size}, hidden {hidden} '
      f'and learning_rate {learning_rate} were asked for; wanted: steps and '
      'batch_size of at least 1, hidden of at least 0, and a learning_rate '
      'above 0.'
    )
  held_out = pairs.held_out(seed)
  parameters = _start(pairs, held_out, seed, penalty, hidden)
  random = np.random.default_rng([seed, 1])
  kept_rows = sample_rows(
    random, np.flatnonzero(pairs.directed & ~held_out), MAX_PAIRS
  )
  new, old = pairs.read(kept_rows)
  measured = pairs.read(
    sample_rows(random, np.flatnonzero(held_out), MAX_PAIRS // 10)
  )
  optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
  state = optimizer.init(parameters)
  best, least = parameters, float(_loss(parameters, *measured))
  for step in range(1, steps + 1):
    batch = random.integers(0, len(new), batch_size)
    parameters, state = _take_step(
      optimizer.update, parameters, state, new[batch], old[batch]
    )
    if step % _MEASURED_EVERY == 0 or step == steps:
      loss = float(_loss(parameters, *measured))
      if loss < least:  # never where it is not a number
        best, least = parameters, loss
  return {name: np.asarray(array) for name, array in best.items()}


def apply(parameters: Any, vectors: Any) -> Any:
  """Maps vectors, of NumPy or of JAX.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors.

  Returns:
    [N, D_target], not normalised.
  """
  hidden = vectors @ parameters['hidden_weights'] + parameters['hidden_bias']
  rectified = hidden * (hidden > 0)
  return (
    ridge.apply(parameters, vectors) + rectified @ parameters['out_weights']
  )


def _start(
  pairs: Pairs,
  held_out: np.ndarray,
  seed: int,
  penalty: float | None,
  hidden: int,
) -> dict[str, jax.Array]:
  """The ridge map of what is not held out, and a layer that adds nothing."""
  kept, others = ridge.sum_pairs(pairs, held_out)
  if penalty is None:
    penalty = ridge.choose_penalty(kept, others)
  weights, bias = ridge.solve(kept, penalty)
  width, old_width = weights.shape
  hidden = hidden or 2 * width
  # The components of a unit vector are about 1/√D: weights of variance 1 give
  # the hidden layer values of about 1.
  drawn = jax.random.normal(jax.random.key(seed), (width, hidden))
  return {
    'weights': jnp.asarray(weights, jnp.float32),
    'bias': jnp.asarray(bias, jnp.float32),
    'hidden_weights': drawn,
    'hidden_bias': jnp.zeros(hidden),
    'out_weights': jnp.zeros((hidden, old_width)),
  }


def sample_rows(
  random: np.random.Generator, rows: np.ndarray, most: int
) -> np.ndarray:
  """Draws rows where there are too many.

  Args:
    random: draws.
    rows: [N] ascending.
    most: how many are wanted at most.

  Returns:
    [min(N, most)] of them, ascending.
  """
  if len(rows) <= most:
    return rows
  return np.sort(random.choice(rows, most, replace=False))


@jax.jit
def _loss(parameters: Any, new: jax.Array, old: jax.Array) -> jax.Array:
  """The mean of 1 − cos(map(x), y) over [B, D] and [B, D_target]."""
  # GPUs and TPUs would otherwise round what `apply` computes in full on the
  # host, and the best of the maps would be chosen by that. The gradient's
  # products are as precise.
  with jax.default_matmul_precision('highest'):
    mapped = apply(parameters, new)
  length = jnp.sqrt(jnp.maximum(jnp.square(mapped).sum(axis=1), 1e-24))
  return jnp.mean(1 - (mapped * old).sum(axis=1) / length)


@functools.partial(jax.jit, static_argnums=0)
def _take_step(
  update: Any, parameters: Any, state: Any, new: jax.Array, old: jax.Array
) -> tuple[Any, Any]:
  gradient = jax.grad(_loss)(parameters, new, old)
  updates, state = update(gradient, state)
  return optax.apply_updates(parameters, updates), state
