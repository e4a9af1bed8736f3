"""Backbones for things that are known by vectors: stored features, no images.

A frozen encoder has said [E] numbers of everything; what is trained is a head
on them. The features take the place of a backbone's, so that heads, methods and
starts are those of images.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

# There is no map to pool; the field is there since every backbone has it.
POOLINGS = ('none',)


class Features(nn.Module):
  """Stored features, alone or with what a perceptron adds to them.

  Attributes:
    hidden: the perceptron's hidden width as a factor of E; 0 for none.
    pooling: of `POOLINGS`.
    dtype: what the perceptron computes in; the features keep their digits.
  """

  hidden: float = 0.0
  pooling: str = 'none'
  dtype: Any = None

  @nn.compact
  def __call__(self, features: jax.Array, train: bool) -> jax.Array:
    """Brings features to one length, and adds the perceptron's.

    Args:
      features: [B, E] of any length, on which nothing depends.
      train: whether it is trained; nothing depends on it.

    Returns:
      [B, E] features f of length √E, or f + W₂·relu(W₁·f + b₁) + b₂.
    """
    del train
    # Components are then about 1, as BatchNorm and fresh layers expect them.
    width = features.shape[-1]
    squared = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
    features = features * jnp.sqrt(width / jnp.maximum(squared, 1e-24))
    if not self.hidden:
      return features
    hidden = nn.relu(
      nn.Dense(round(self.hidden * width), dtype=self.dtype, name='fc1')(
        features
      )
    )
    # From zero: whatever start the head is given is then that of the whole.
    return features + nn.Dense(
      width,
      dtype=self.dtype,
      kernel_init=nn.initializers.zeros,
      name='fc2',
    )(hidden).astype(features.dtype)


def _with_perceptron(width: float, **options: Any) -> Features:
  return Features(hidden=width, **options)


def _alone(width: float, **options: Any) -> Features:
  del width  # of channels, and none are made here
  return Features(**options)


# By name, made of `width` and the fields of `Features`.
FEATURES: Mapping[str, Callable[..., Features]] = {
  'features': _alone,
  'features_mlp': _with_perceptron,
}
