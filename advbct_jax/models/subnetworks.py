"""Nested subnetworks of an encoder: of each kernel, what has high scores.

A subnetwork of capacity c has c% of the weights of every kernel of the
backbone, those whose scores are largest in absolute value, and zeros for the
others. It has all of what is no kernel of the backbone: biases, BatchNorms and
the layer that makes the embedding. What one subnetwork has, each larger one has
too.

Sun et al., "Learning compatible multi-prize subnetworks for asymmetric
retrieval", CVPR 2025, arXiv 2504.11879.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp

# The capacity of the whole network, in percent.
WHOLE = 100

# An array of each kernel, by its path in the encoder's parameters.
Kernels = dict[tuple[str, ...], jax.Array]

# As PyTorch draws the weights of its layers: uniform in ±1/√inputs.
_draw = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def take_kernels(params: Mapping[str, Any]) -> Kernels:
  """The kernels that subnetworks have a part of.

  Args:
    params: of an encoder.
  """
  return {
    path: leaf
    for path, leaf in traverse_util.flatten_dict(params).items()
    if path[0] == 'backbone' and path[-1] == 'kernel'
  }


def put_kernels(params: Mapping[str, Any], kernels: Kernels) -> Any:
  """The same parameters with other kernels in their places."""
  return traverse_util.unflatten_dict(
    traverse_util.flatten_dict(params) | kernels
  )


def draw_scores(key: jax.Array, kernels: Kernels) -> Any:
  """Draws scores as a layer's weights are drawn; as a tree like parameters."""
  keys = jax.random.split(key, len(kernels))
  return traverse_util.unflatten_dict(
    {
      path: _draw(one, kernel.shape)
      for one, (path, kernel) in zip(keys, kernels.items(), strict=True)
    }
  )


def thresholds(scores: jax.Array, capacities: Sequence[float]) -> jax.Array:
  """The least score that still belongs to a subnetwork.

  Args:
    scores: of one kernel.
    capacities: [L] in percent.

  Returns:
    [L] percentiles of the scores' absolute values.

  References:
    As the published code rounds: of n scores those from the place
    1 + round((1 − c/100)·(n − 1)) on, in ascending order.

  >>> thresholds(jnp.array([-5.0, 1, 2, -3, 4]), (25, 50, 100)).tolist()
  [4.0, 3.0, 1.0]
  """
  # One sort for all of them.
  ascending = jnp.sort(jnp.abs(jax.lax.stop_gradient(scores)), axis=None)
  places = [
    round((1 - capacity / WHOLE) * (ascending.size - 1))
    for capacity in capacities
  ]
  return ascending[jnp.array(places)]


def prune(
  kernel: jax.Array, scores: jax.Array, threshold: jax.Array
) -> jax.Array:
  """Takes the weights of a subnetwork, and zeros for the others.

  The gradient goes straight through the comparison, as if a weight that is kept
  were multiplied by its score's absolute value: to the weight it is that of
  the pruned one, to the score that times weight and sign. Weights that are not
  kept and their scores have none.

  Args:
    kernel: of any shape.
    scores: of the same shape.
    threshold: the least score, in absolute value, that is kept.

  >>> prune(jnp.array([1.0, 2, 3]), jnp.array([-9.0, 5, 7]), 6.0).tolist()
  [1.0, 0.0, 3.0]
  """
  size = jnp.abs(scores)
  through = jax.lax.stop_gradient(kernel) * (size - jax.lax.stop_gradient(size))
  return jnp.where(size >= threshold, kernel + through, 0)


def prune_encoder(
  params: Mapping[str, Any], scores: Mapping[str, Any], capacity: float
) -> Any:
  """The parameters of one subnetwork of a trained encoder.

  Args:
    params: of the encoder.
    scores: of its kernels, a tree like the parameters.
    capacity: in percent.
  """
  flat = traverse_util.flatten_dict(scores)
  return put_kernels(
    params,
    {
      path: prune(kernel, flat[path], thresholds(flat[path], [capacity])[0])
      for path, kernel in take_kernels(params).items()
    },
  )
