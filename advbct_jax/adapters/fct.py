"""Old vectors mapped into the new space by FCT's network, as published.

  h = mixer[p₁(old), p₂(side)]

p₁ and p₂ have two blocks each, twice as wide as what goes in and 2·D_target,
the mixer has two of H and a linear layer to D_target. A block is a linear layer
without a bias, batch normalisation and a rectifier. Side information is what a
third encoder said, kept for what a later one may ask: in the paper one trained
without labels. Without any the old vector is p₂'s as well, as in the paper's
experiments.

References:
  Ramanujan et al., "Forward compatible training for large-scale embedding
  retrieval systems", CVPR 2022, arXiv 2112.02805: the squared error, Adam at
  5e-4 and 80 epochs of batches of 1024 on 1.28 million images. By the published
  code: the rate rises for a sixteenth of the epochs and falls along a cosine,
  from epoch to epoch; 2⁻¹⁵ of the weights is added to their gradient; in the
  second half normalisation is by running statistics, whose scale and shift are
  trained on. There vectors are as encoders say them, here of length 1.

`fastfill` has some of these layers beside a ridge map, for fewer pairs.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
from jax import numpy as jnp
import numpy as np
import optax

from advbct_jax.adapters.pairs import Pairs
from advbct_jax.adapters.residual_mlp import MAX_PAIRS, sample_rows
from advbct_jax.errors import InputError

_BRANCHES = ('old', 'side')
_BLOCKS = (
  *(f'{branch}_{place}' for branch in _BRANCHES for place in (1, 2)),
  *('mixer_1', 'mixer_2'),
)
_MOMENTUM = 0.9
_EPSILON = 1e-5
_WEIGHT_DECAY = 2.0**-15
_RISING = 16  # the rate rises for one in so many epochs
# Rows that are mapped at a time: the blocks are wider than what they map.
_ROWS = 4096


def fit(
  pairs: Pairs,
  seed: int,
  *,
  hidden: int,
  epochs: int,
  batch_size: int,
  learning_rate: float,
) -> dict[str, np.ndarray]:
  """Trains the map by Adam on the mean of (h(x) − y)² over all components.

  Nothing is held out, and what the last epoch leaves is taken.

  Args:
    pairs: N pairs of width D, side vectors among it, and D_target; 262,144 of
      them, drawn by seed, where there are more.
    seed: of the network's start and the order of the pairs.
    hidden: width H of the mixer.
    epochs: how often it sees each pair.
    batch_size: pairs a batch, at least 2; all in one where there are fewer.
      What is left over at an epoch's end waits for the next.
    learning_rate: the highest.

  Returns:
    `BLOCK_weights` and `BLOCK_bias` for the blocks `old_1`, `old_2`, `side_1`,
    `side_2`, `mixer_1` and `mixer_2`, which have taken up their normalisation,
    and `out_weights` [H, D_target] and `out_bias` [D_target].

  Raises:
    InputError: if an option is out of range.
  """
  if min(epochs, hidden) < 1 or batch_size < 2 or not learning_rate > 0:
    raise InputError(
      f'fct: {epochs} epochs, batch_size {batch_size}, hidden {hidden} and '
      f'learning_rate {learning_rate} were asked for; wanted: epochs and '
      'hidden of at least 1, batch_size of at least 2, and a learning_rate '
      'above 0.'
    )
  random = np.random.default_rng([seed, 1])
  rows = sample_rows(random, np.flatnonzero(pairs.directed), MAX_PAIRS)
  source, target = pairs.read(rows)
  batch_size = min(batch_size, len(rows))
  widths = [part.shape[1] for part in pairs.apart(source)]
  drawn = _start(seed, widths[0], widths[-1], pairs.target_width, hidden)
  parameters: Any = drawn
  usual: Any = _unknown_statistics(drawn)
  state = _optimizer().init(parameters)
  for epoch in range(epochs):
    rate = _learning_rate(learning_rate, epoch, epochs)
    order = random.permutation(len(rows))
    frozen = epoch >= epochs / 2
    for start in range(0, len(rows) - batch_size + 1, batch_size):
      batch = order[start : start + batch_size]
      parameters, state, usual = _take_step(
        *(parameters, state, usual),
        *(source[batch], target[batch], rate, frozen),
      )
  folded = _fold(parameters, usual)
  return {name: np.asarray(array) for name, array in folded.items()}


def apply(parameters: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
  """Maps vectors.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors, each followed by its side vector where these
      were fitted to.

  Returns:
    [N, D_target], not normalised.
  """

  def block(name: str, x: np.ndarray) -> np.ndarray:
    linear = x @ parameters[f'{name}_weights'] + parameters[f'{name}_bias']
    return np.maximum(linear, 0, out=linear)

  inputs = _branch_inputs(parameters, vectors)
  mapped = [
    _pass(block, [one[start : start + _ROWS] for one in inputs], np.concatenate)
    @ parameters['out_weights']
    + parameters['out_bias']
    for start in range(0, max(len(vectors), 1), _ROWS)
  ]
  return np.concatenate(mapped)


def _branch_inputs(parameters: Any, vectors: Any) -> list[Any]:
  """What p₁ and p₂ see of vectors [N, D]: old and side ones, or old twice."""
  width = len(parameters['old_1_weights'])
  alone = vectors.shape[1] == width
  return [vectors[:, :width], vectors if alone else vectors[:, width:]]


def _pass(
  block: Callable[[str, Any], Any],
  inputs: Sequence[Any],
  join: Callable[..., Any],
) -> Any:
  """[N, H] what the blocks make of p₁'s and p₂'s, before the last layer."""
  branches = [
    block(f'{branch}_2', block(f'{branch}_1', one))
    for branch, one in zip(_BRANCHES, inputs, strict=True)
  ]
  return block('mixer_2', block('mixer_1', join(branches, axis=1)))


def _start(
  seed: int, width: int, side_width: int, target_width: int, hidden: int
) -> dict[str, np.ndarray]:
  """Draws the network: uniform in ±1/√fan-in, as PyTorch does."""
  shapes = {
    'old_1': (width, 2 * width),
    'side_1': (side_width, 2 * side_width),
    'old_2': (2 * width, 2 * target_width),
    'side_2': (2 * side_width, 2 * target_width),
    'mixer_1': (4 * target_width, hidden),
    'mixer_2': (hidden, hidden),
    'out': (hidden, target_width),
  }
  random = np.random.default_rng(seed)

  def draw(fan_in: int, *shape: int) -> np.ndarray:
    limit = 1 / np.sqrt(fan_in)
    return random.uniform(-limit, limit, shape).astype(np.float32)

  parameters = {
    f'{name}_weights': draw(shape[0], *shape) for name, shape in shapes.items()
  }
  parameters['out_bias'] = draw(hidden, target_width)
  for name in _BLOCKS:
    parameters[f'{name}_scale'] = np.ones(shapes[name][1], np.float32)
    parameters[f'{name}_shift'] = np.zeros(shapes[name][1], np.float32)
  return parameters


def _unknown_statistics(
  parameters: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """The running statistics before anything is seen: 0 and 1."""
  widths = {name: parameters[f'{name}_scale'].shape for name in _BLOCKS}
  return {
    **{f'{name}_mean': np.zeros(widths[name], np.float32) for name in _BLOCKS},
    **{
      f'{name}_variance': np.ones(widths[name], np.float32) for name in _BLOCKS
    },
  }


@functools.lru_cache
def _optimizer() -> optax.GradientTransformation:
  return optax.chain(
    optax.add_decayed_weights(_WEIGHT_DECAY), optax.scale_by_adam()
  )


def _learning_rate(highest: float, epoch: int, epochs: int) -> np.float32:
  rising = epochs // _RISING
  if epoch < rising:
    return np.float32(highest * (epoch + 1) / rising)
  done = (epoch - rising) / (epochs - rising)
  return np.float32(highest * (1 + np.cos(np.pi * done)) / 2)


def _map(
  parameters: Any, source: jax.Array, usual: Any, frozen: jax.Array | bool
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Maps in training.

  Args:
    parameters: of the network.
    source: [B, D] unit vectors, side ones at the end where there are.
    usual: the running statistics.
    frozen: whether they are what is normalised by, or those of the batch are.

  Returns:
    [B, D_target] mapped vectors, and the statistics of the batch.
  """
  statistics: dict[str, jax.Array] = {}

  def block(name: str, x: jax.Array) -> jax.Array:
    linear = x @ parameters[f'{name}_weights']
    found = {'mean': linear.mean(axis=0), 'variance': linear.var(axis=0)}
    statistics.update({f'{name}_{what}': found[what] for what in found})
    mean, variance = (
      jnp.where(frozen, usual[f'{name}_{what}'], found[what]) for what in found
    )
    factor = parameters[f'{name}_scale'] / jnp.sqrt(variance + _EPSILON)
    return jax.nn.relu((linear - mean) * factor + parameters[f'{name}_shift'])

  with jax.default_matmul_precision('highest'):
    inputs = _branch_inputs(parameters, source)
    hidden = _pass(block, inputs, jnp.concatenate)
    mapped = hidden @ parameters['out_weights'] + parameters['out_bias']
  return mapped, statistics


@jax.jit
def _fold(parameters: Any, statistics: Any) -> dict[str, jax.Array]:
  """Blocks with weights and a bias alone, that normalise by statistics."""
  folded = {name: parameters[name] for name in ('out_weights', 'out_bias')}
  for name in _BLOCKS:
    factor = parameters[f'{name}_scale'] / jnp.sqrt(
      statistics[f'{name}_variance'] + _EPSILON
    )
    folded[f'{name}_weights'] = parameters[f'{name}_weights'] * factor
    folded[f'{name}_bias'] = (
      parameters[f'{name}_shift'] - statistics[f'{name}_mean'] * factor
    )
  return folded


def _loss(
  parameters: Any,
  source: jax.Array,
  target: jax.Array,
  usual: Any,
  frozen: jax.Array | bool,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The mean squared component of h(x) − y, and the batch's statistics."""
  mapped, statistics = _map(parameters, source, usual, frozen)
  return jnp.square(mapped - target).mean(), statistics


@functools.partial(jax.jit, donate_argnums=(0, 1))
def _take_step(
  parameters: Any,
  state: Any,
  usual: Any,
  source: jax.Array,
  target: jax.Array,
  rate: jax.Array,
  frozen: jax.Array,
) -> tuple[Any, Any, Any]:
  gradient, statistics = jax.grad(_loss, has_aux=True)(
    parameters, source, target, usual, frozen
  )
  updates, state = _optimizer().update(gradient, state, parameters)
  parameters = jax.tree.map(
    lambda one, update: one - rate * update, parameters, updates
  )
  return parameters, state, _follow(usual, statistics, len(source), frozen)


def _follow(
  usual: Any, statistics: Any, count: int, frozen: jax.Array
) -> dict[str, jax.Array]:
  """Running statistics after a batch of `count`; variances unbiased."""
  unbiased = {
    name: array * (count / (count - 1) if name.endswith('_variance') else 1)
    for name, array in statistics.items()
  }
  return {
    name: jnp.where(
      frozen, old, _MOMENTUM * old + (1 - _MOMENTUM) * unbiased[name]
    )
    for name, old in usual.items()
  }
