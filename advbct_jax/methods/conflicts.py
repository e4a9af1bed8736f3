"""One gradient of several that may oppose each other."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

T = TypeVar('T')

# Keeps quotients finite; of this size in PrunNet's published code.
_TINY = 1e-8


def project_conflicts(
  gradients: jax.Array, order: jax.Array, *, going_on: bool
) -> jax.Array:
  """Takes off each gradient what opposes another.

  Where g_i·g_j < 0, g_i loses its part along g_j, g_i − (g_i·g_j)/|g_j|²·g_j.

  Args:
    gradients: [L, n, G] of L losses; each of G groups of n is looked at alone.
    order: [L] a permutation, the order in which others are looked at.
    going_on: whether the next conflict is looked for in what the last one has
      left, as in PCGrad. Otherwise each starts from the gradient as it was, so
      that the last one alone counts, as in PrunNet's published code.

  Returns:
    [L, n, G].

  References:
    Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020.

  >>> opposed = jnp.array([[1.0, 0], [-1, 1]])[:, :, None]
  >>> found = project_conflicts(opposed, jnp.arange(2), going_on=True)
  >>> found[:, :, 0].tolist()
  [[0.5, 0.5], [0.0, 1.0]]
  """
  numbers = jnp.arange(len(gradients))[:, None]
  projected = gradients
  for place in range(len(gradients)):
    other = gradients[order[place]]
    start = projected if going_on else gradients
    product = (start * other).sum(axis=1)
    along = product / (jnp.square(other).sum(axis=0) + _TINY)
    # What is left of a gradient may oppose that gradient itself.
    conflict = (product < 0) & (numbers != order[place])
    projected = jnp.where(
      conflict[:, None], start - along[:, None] * other, projected
    )
  return projected


def weigh_by_agreement(
  projected: jax.Array, gradients: jax.Array, exponent: float
) -> jax.Array:
  """Sums gradients by how much a projection has left of them.

  With a_i = ((cos(p_i, g_i) + 1)/2)^exponent the sum is L·Σ a_i·p_i / Σ a_i.

  Args:
    projected: [L, …] p.
    gradients: [L, …] g, before the projection.
    exponent: 0 gives the plain sum.

  Returns:
    […] the sum.

  References:
    Sun et al., CVPR 2025.
  """
  one, other = (x.reshape(len(x), -1) for x in (projected, gradients))
  lengths = [
    jnp.maximum(jnp.sqrt(jnp.square(x).sum(axis=1)), _TINY)
    for x in (one, other)
  ]
  cosine = (one * other).sum(axis=1) / (lengths[0] * lengths[1])
  weights = ((cosine + 1) / 2) ** exponent
  weights = len(weights) * weights / (weights.sum() + _TINY)
  return (weights[:, None] * one).sum(axis=0).reshape(projected.shape[1:])


def share(
  parameters: T,
  copies: int,
  combine: Callable[[T, Any], T],
  draws: Any = None,
) -> Sequence[T]:
  """Parameters for several losses, whose gradients meet on the way back.

  Each loss is to see a copy of its own. One pass backwards then does for all of
  them, where gradients of a vector of losses would take one each.

  Args:
    parameters: a tree of arrays.
    copies: the number L of losses.
    combine: makes one gradient of stacked ones, [L, …] a leaf.
    draws: its second argument, integers, which may be drawn.

  Returns:
    L times the same tree.
  """

  @jax.custom_vjp
  def fan_out(parameters: T, draws: Any) -> list[T]:
    del draws
    return [parameters] * copies

  def forward(parameters: T, draws: Any) -> tuple[list[T], Any]:
    return fan_out(parameters, draws), draws

  def backward(draws: Any, gradients: list[T]) -> tuple[T, None]:
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)
    return combine(stacked, draws), None

  fan_out.defvjp(forward, backward)
  return fan_out(parameters, draws)
