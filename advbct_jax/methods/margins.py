"""Margins: cosines become logits that ask more of the own class."""

from collections.abc import Callable
import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp

# The derivative of arccos has no bound at ±1.
_MARGIN_OF_ARCCOS = 1e-7


class Margin(Protocol):
  """Maps [B, C] cosines and [B] own classes to [B, C] logits."""

  def __call__(self, cosine: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the logits."""
    ...


@dataclasses.dataclass(frozen=True)
class ArcFace:
  """Scaled cosines, that of the own class at an angle wider by a margin.

  Attributes:
    scale: s.
    margin: m in radians.

  References:
    Deng et al., "ArcFace", CVPR 2019.

  >>> logits = ArcFace(2, 0.3)(jnp.array([[0.5, 0.5]]), jnp.array([0]))
  >>> [round(float(logit), 4) for logit in logits[0]]
  [0.4435, 1.0]
  """

  scale: float
  margin: float

  def __call__(self, cosine: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns s·cos(φ + m) of the own class, s·cos φ of the others."""
    own = jax.nn.one_hot(labels, cosine.shape[1], dtype=bool)
    wider = jnp.cos(safe_arccos(cosine) + self.margin)
    return self.scale * jnp.where(own, wider, cosine)


@dataclasses.dataclass(frozen=True)
class CosFace:
  """Scaled cosines, that of the own class less a margin.

  Attributes:
    scale: s.
    margin: m, subtracted from the cosine.

  References:
    Wang et al., "CosFace", CVPR 2018.

  >>> logits = CosFace(2, 0.3)(jnp.array([[0.5, 0.5]]), jnp.array([0]))
  >>> [round(float(logit), 4) for logit in logits[0]]
  [0.4, 1.0]
  """

  scale: float
  margin: float

  def __call__(self, cosine: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns s·(cos φ − m) of the own class, s·cos φ of the others."""
    own = jax.nn.one_hot(labels, cosine.shape[1])
    return self.scale * (cosine - self.margin * own)


MARGINS: dict[str, Callable[[float, float], Margin]] = {
  'arcface': ArcFace,
  'cosface': CosFace,
}


def safe_arccos(cosine: jax.Array) -> jax.Array:
  """The angle of a cosine, kept from ±1, where its derivative is infinite."""
  limit = 1 - _MARGIN_OF_ARCCOS
  return jnp.arccos(jnp.clip(cosine, -limit, limit))
