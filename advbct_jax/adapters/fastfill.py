"""Old vectors mapped into the new space, each with how far off it may be.

References:
  Ramanujan et al., "Forward compatible training for large-scale embedding
  retrieval systems", CVPR 2022: linear layers with batch normalisation and
  rectifiers from old to new vectors, Adam at 5e-4 falling along a cosine, 2048
  hidden components and 80 epochs of 1024 (1.28 million images).
  Jaeckle et al., "FastFill: efficient compatible model update", ICLR 2023: the
  error as a Gaussian whose variance is predicted from the old vector, and a
  refresh that begins where it is largest.

Ridge beside the layers, where the map starts, and fewer hidden components let
some thousand pairs do.
"""

import functools
from typing import Any

import jax
from jax import numpy as jnp
import numpy as np
import optax

from advbct_jax.adapters import ridge
from advbct_jax.adapters.pairs import Pairs
from advbct_jax.adapters.residual_mlp import MAX_PAIRS, sample_rows
from advbct_jax.errors import InputError

_MEASURED_EVERY = 50
_MOMENTUM = 0.9
_EPSILON = 1e-5


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
  """Trains the map h and its variance σ² for a Gaussian's likelihood.

  The loss is the mean of ½·(‖h(x) − y‖²/(D_target·σ²(x)) + log σ²(x)). A
  tenth of the images is held out. Every 50 steps the loss is measured on them,
  and the best map is kept, be it the start.

  Args:
    pairs: N pairs of width D and D_target.
    seed: of the held-out images, the layers' start and the batches.
    penalty: of the ridge map that it starts from; see `ridge.fit`.
    hidden: width H of both hidden layers.
    steps: how many batches it trains on.
    batch_size: pairs a batch, at least 2.
    learning_rate: of Adam; it falls to zero along a cosine.

  Returns:
    `weights` [D, D_target], `bias` [D_target], `first_weights` [D, H],
    `first_bias` [H], `second_weights` [H, H], `second_bias` [H], `out_weights`
    [H, D_target], `variance_weights` [H] and `variance_bias` [1]; the layers
    have taken up their normalisation.

  Raises:
    InputError: if an option is out of range.
  """
  if min(steps, hidden) < 1 or batch_size < 2 or not learning_rate > 0:
    raise InputError(
      f'fastfill: {steps} steps, batch_size {batch_size}, hidden {hidden} and '
      f'learning_rate {learning_rate} were asked for; wanted: steps and hidden '
      'of at least 1, batch_size of at least 2, and a learning_rate above 0.'
    )
  held_out = pairs.held_out(seed)
  random = np.random.default_rng([seed, 1])
  source, target = pairs.read(
    sample_rows(random, np.flatnonzero(pairs.directed & ~held_out), MAX_PAIRS)
  )
  measured = pairs.read(
    sample_rows(random, np.flatnonzero(held_out), MAX_PAIRS // 10)
  )
  parameters = _start(pairs, held_out, seed, penalty, hidden)
  optimizer = _make_optimizer(learning_rate, steps)
  state = optimizer.init(parameters)
  usual = _statistics(parameters, jnp.asarray(source[: 4 * batch_size]))
  best = _fold(parameters, usual)
  least = float(_loss_of_folded(best, *measured))
  for step in range(1, steps + 1):
    batch = random.integers(0, len(source), batch_size)
    parameters, state, usual = _take_step(
      optimizer.update, parameters, state, usual, source[batch], target[batch]
    )
    if step % _MEASURED_EVERY == 0 or step == steps:
      folded = _fold(parameters, usual)
      loss = float(_loss_of_folded(folded, *measured))
      if loss < least:  # never where it is not a number
        best, least = folded, loss
  return {name: np.asarray(array) for name, array in best.items()}


def apply(parameters: Any, vectors: Any) -> Any:
  """Maps vectors, of NumPy or of JAX.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors.

  Returns:
    [N, D_target], not normalised.
  """
  hidden = _hidden(parameters, vectors)
  return ridge.apply(parameters, vectors) + hidden @ parameters['out_weights']


def predict_uncertainty(parameters: Any, vectors: Any) -> Any:
  """Predicts how far off mapped vectors are.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors.

  Returns:
    [N] σ, the expected root mean square of h(x) − y over its components.
  """
  return np.exp(_log_variance(parameters, _hidden(parameters, vectors)) / 2)


@functools.lru_cache
def _make_optimizer(
  learning_rate: float, steps: int
) -> optax.GradientTransformation:
  # Its functions are new each time that it is made, and compiled for anew.
  return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


def _hidden(parameters: Any, vectors: Any) -> Any:
  first = vectors @ parameters['first_weights'] + parameters['first_bias']
  first = first * (first > 0)
  second = first @ parameters['second_weights'] + parameters['second_bias']
  return second * (second > 0)


def _log_variance(parameters: Any, hidden: Any) -> Any:
  return hidden @ parameters['variance_weights'] + parameters['variance_bias']


def _start(
  pairs: Pairs,
  held_out: np.ndarray,
  seed: int,
  penalty: float | None,
  hidden: int,
) -> dict[str, jax.Array]:
  """The ridge map and its error, and layers that add nothing to either."""
  kept, others = ridge.sum_pairs(pairs, held_out)
  if penalty is None:
    penalty = ridge.choose_penalty(kept, others)
  weights, bias = ridge.solve(kept, penalty)
  width, target_width = weights.shape
  # Of what is held out: on the others ridge errs less than it will.
  error = ridge.squared_error(others, weights, bias) / others.count
  first, second = jax.random.split(jax.random.key(seed))
  return {
    'weights': jnp.asarray(weights, jnp.float32),
    'bias': jnp.asarray(bias, jnp.float32),
    'first_weights': jax.random.normal(first, (width, hidden)),
    'second_weights': jax.random.normal(second, (hidden, hidden))
    * np.sqrt(2 / hidden),
    'first_scale': jnp.ones(hidden),
    'first_shift': jnp.zeros(hidden),
    'second_scale': jnp.ones(hidden),
    'second_shift': jnp.zeros(hidden),
    'out_weights': jnp.zeros((hidden, target_width)),
    'variance_weights': jnp.zeros(hidden),
    'variance_bias': jnp.full(
      1, np.log(max(error / target_width, 1e-12)), jnp.float32
    ),
  }


@jax.jit
def _statistics(parameters: Any, source: jax.Array) -> dict[str, jax.Array]:
  """Means and variances [H] of both layers before they are normalised."""
  statistics: dict[str, jax.Array] = {}
  vectors = source
  for layer in ('first', 'second'):
    linear = vectors @ parameters[f'{layer}_weights']
    mean, variance = linear.mean(axis=0), linear.var(axis=0)
    statistics |= {f'{layer}_mean': mean, f'{layer}_variance': variance}
    scaled = (linear - mean) / jnp.sqrt(variance + _EPSILON)
    vectors = jax.nn.relu(
      scaled * parameters[f'{layer}_scale'] + parameters[f'{layer}_shift']
    )
  return statistics


@jax.jit
def _fold(parameters: Any, statistics: Any) -> dict[str, jax.Array]:
  """Layers with weights and a bias alone, that normalise by statistics."""
  folded = {
    name: array
    for name, array in parameters.items()
    if not name.endswith(('_scale', '_shift'))
  }
  for layer in ('first', 'second'):
    factor = parameters[f'{layer}_scale'] / jnp.sqrt(
      statistics[f'{layer}_variance'] + _EPSILON
    )
    folded[f'{layer}_weights'] = parameters[f'{layer}_weights'] * factor
    folded[f'{layer}_bias'] = (
      parameters[f'{layer}_shift'] - statistics[f'{layer}_mean'] * factor
    )
  return folded


def _loss(folded: Any, source: jax.Array, target: jax.Array) -> jax.Array:
  # As in `residual_mlp`: the best must be chosen by what `apply` computes.
  with jax.default_matmul_precision('highest'):
    hidden = _hidden(folded, source)
    mapped = source @ folded['weights'] + folded['bias']
    mapped += hidden @ folded['out_weights']
    log_variance = _log_variance(folded, hidden)
  error = jnp.square(mapped - target).mean(axis=1)
  return jnp.mean(error * jnp.exp(-log_variance) + log_variance) / 2


_loss_of_folded = jax.jit(_loss)


@functools.partial(jax.jit, static_argnums=0)
def _take_step(
  update: Any,
  parameters: Any,
  state: Any,
  usual: Any,
  source: jax.Array,
  target: jax.Array,
) -> tuple[Any, Any, Any]:
  def measure(parameters: Any) -> tuple[jax.Array, Any]:
    with jax.default_matmul_precision('highest'):
      statistics = _statistics(parameters, source)
    return _loss(_fold(parameters, statistics), source, target), statistics

  gradient, statistics = jax.grad(measure, has_aux=True)(parameters)
  updates, state = update(gradient, state)
  usual = jax.tree.map(
    lambda old, new: _MOMENTUM * old + (1 - _MOMENTUM) * new, usual, statistics
  )
  return optax.apply_updates(parameters, updates), state, usual
