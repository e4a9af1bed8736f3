"""BT²: a few more dimensions, and a turn that brings the new model back.

An embedding e of D = n + x components is made of z by turns, which lose
nothing: with orthogonal Q [D_old, D_old] and P [n, n]

  e = (Q·z_{1…D_old}, z_{D_old+1…D}),  z = (x more components, P·y),

so that y [n] can be read off e again. The loss of a sample of class c is

  −log softmax(W·ŷ)_c − w₁·log softmax(V·ê_old)_c
  + w₂·(1 − ê_old·ô) + w₃·(1 − ŷ·n̂),

with e_old the first D_old components, ô the old embedding of the same image, n̂
that of an independent new encoder, and V the pseudo classifier: of each new
class, also of those that the old model never saw, the mean of the ô.

Zhou et al., "BT²: backward-compatible training with basis transformation", ICCV
2023, arXiv 2211.03989. As in the published code (products of unit vectors
without a scale, turns as exponentials of skew-symmetric matrices) but for two
things. There the turns are layers of the encoder, behind parts that it brings
to the lengths 1 and C. Here e is what the encoder's head says: a turn behind a
linear layer makes another linear layer, so that turns are needed no more than
to find y. They belong to the method, and the encoder that is searched with is
like any other; but the lengths of the two parts are free. And the turns start
at none, where there they are drawn.

It needs nothing of the old model but its embeddings.
"""

import math
from typing import Any, ClassVar

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.errors import InputError
from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  OldSide,
  Outcome,
  Progress,
  similarities,
)
from advbct_jax.models.encoder import classifier, l2_normalize
from advbct_jax.parallel import global_mean

# Up to here ten terms of the exponential's series are as exact as float32.
_RADIUS = 0.85
# Larger angles than a billion are none in float32, and must not take for ever.
_MOST_SQUARINGS = 30


class BT2(Method):
  """Classification, and ties to the old and to an independent new encoder.

  Attributes:
    extra_dimensions: x, by which embeddings are wider than the independent
      encoder's.
    pseudo_weight: w₁, of the pseudo classifier.
    old_weight: w₂, of the cosine to the old embedding.
    independent_weight: w₃, of the cosine to the independent embedding.
  """

  label: ClassVar[str] = 'BT²'
  color: ClassVar[str] = '#661100'
  stores: ClassVar[tuple[str, ...]] = ('independent',)
  needs_whole_classes: ClassVar[str] = 'it has classifiers of its own'

  extra_dimensions: int = 32
  pseudo_weight: float = 5.0
  old_weight: float = 1.0
  independent_weight: float = 10.0

  def prepare(self, side: OldSide) -> Any:
    """[C, D_old] the pseudo classifier."""
    return class_statistics(side.embeddings, side.labels, self.classes).center

  @nn.compact
  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean over all samples: of old classes or not, each has an ô."""
    del progress
    embeddings = self.encoder(batch.images, train=True)
    independent = batch.other_embeddings['independent']
    self._require_widths(embeddings.shape[1], independent.shape[1])
    old_part = l2_normalize(self.compatible(embeddings))
    restored = l2_normalize(self._restore(embeddings))
    # Of what is restored, not of embeddings as another's classifier is.
    logits = classifier(self.classes, name='restored_classifier')(restored)
    classification, metrics = self.cross_entropy(logits, batch.labels)
    pseudo, _ = self.cross_entropy(
      similarities(old_part, old.prepared), batch.labels
    )
    old_distance, independent_distance = (
      global_mean(
        1 - (one * l2_normalize(other)).sum(axis=-1), axis_name=self.axis_name
      )
      for one, other in (
        (old_part, batch.old_embeddings),
        (restored, independent),
      )
    )
    return Outcome(
      classification
      + self.pseudo_weight * pseudo
      + self.old_weight * old_distance
      + self.independent_weight * independent_distance,
      embeddings,
      metrics
      | {
        'pseudo_loss': pseudo,
        'old_distance': old_distance,
        'independent_distance': independent_distance,
      },
    )

  def _restore(self, embeddings: jax.Array) -> jax.Array:
    """[B, n] y, by undoing the turns of [B, D] e."""
    old_part = self.compatible(embeddings)
    width = old_part.shape[1]
    z = jnp.concatenate(
      [
        similarities(old_part, self._turn('old_turn', width).T),
        embeddings[:, width:],
      ],
      axis=1,
    )
    turned = z[:, self.extra_dimensions :]
    turn = self._turn('independent_turn', turned.shape[1])
    return similarities(turned, turn.T)

  def _turn(self, name: str, width: int) -> jax.Array:
    """[width, width] an orthogonal matrix; rows times it are turned back."""
    weights = self.param(name, nn.initializers.zeros, (width, width))
    return _exponential(weights - weights.T)

  def _require_widths(self, width: int, independent: int) -> None:
    if width != independent + self.extra_dimensions:
      raise InputError(
        f'config.model.dimension is {width}, while embeddings of '
        f'config.stores.independent have {independent} components and '
        f'config.bt2.extra_dimensions is {self.extra_dimensions}; wanted: a '
        f'dimension of {independent + self.extra_dimensions}, with the old '
        "embedding's width as its compatible_dimension."
      )


@jax.custom_vjp
def _exponential(skew: jax.Array) -> jax.Array:
  """[n, n] the exponential of a skew-symmetric matrix, an orthogonal one."""
  return _square_series(skew)


def _square_series(skew: jax.Array) -> jax.Array:
  """The series of what is scaled down, squared as often as it was halved.

  Of the products of `jax.scipy.linalg.expm` it needs as many, but no system of
  equations solved; and no squaring but those that a matrix asks for.
  """
  with jax.default_matmul_precision('highest'):
    square = skew @ skew
    # Angles come in pairs, so that twice the largest one to the fourth is no
    # more than the sum of all to the fourth. Of zeros it has no derivative.
    norm = jnp.linalg.norm(lax.stop_gradient(square))
    angle = jnp.sqrt(norm / math.sqrt(2))
    halvings = jnp.clip(jnp.ceil(jnp.log2(angle / _RADIUS)), 0, _MOST_SQUARINGS)
    x, x2 = skew * jnp.exp2(-halvings), square * jnp.exp2(-2 * halvings)
    x3 = x2 @ x

    def terms(first: int) -> jax.Array:
      """Three terms of the series, divided by xᶠⁱʳˢᵗ."""
      one, two, three = (1 / math.factorial(first + more) for more in range(3))
      return one * jnp.eye(len(x), dtype=x.dtype) + two * x + three * x2

    last = terms(6) + x3 / math.factorial(9)
    turn = terms(0) + x3 @ (terms(3) + x3 @ last)
    return lax.fori_loop(
      0, halvings.astype(int), lambda _, turn: turn @ turn, turn
    )


def _differentiate(skew: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
  """The derivative's transpose is the derivative at the transpose."""
  return (jax.jvp(_square_series, (skew.T,), (gradient,))[1],)


_exponential.defvjp(lambda skew: (_square_series(skew), skew), _differentiate)
