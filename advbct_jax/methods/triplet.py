"""Triplet: the same image's old embedding is nearer than those of others.

The loss of a sample and an old embedding ô⁻ of another class is
max(‖f̂ − ô‖ − ‖f̂ − ô⁻‖ + m, 0), with ô of the same image; each sample has the
nearest few ô⁻ of the batch.

Schroff et al., "FaceNet: a unified embedding for face recognition and
clustering", CVPR 2015, arXiv 1503.03832; a baseline of Hot-refresh (Zhang et
al., ICLR 2022, arXiv 2201.09724), as in the code that its authors published.
There, a negative that a small batch lacks costs 0 and counts in the mean; here
it is left out.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from advbct_jax.methods.hot_refresh import hardest_negatives
from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  Outcome,
  Progress,
  similarities,
)
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import gather, global_mean


class Triplet(Method):
  """Classification plus a margin between old positives and negatives.

  Attributes:
    margin: m, in distances between vectors of length 1.
    negatives: how many of the nearest old embeddings of other classes count.
    weight: of the triplets.
  """

  label: ClassVar[str] = 'Triplet'
  color: ClassVar[str] = '#DDCC77'

  margin: float = 0.8
  negatives: int = 10
  weight: float = 1.0

  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean over all triplets of all samples, of old classes or not."""
    del old, progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    new_unit = l2_normalize(self.compatible(embeddings))
    old_unit = l2_normalize(batch.old_embeddings)
    same = batch.labels[:, None] == gather(batch.labels, self.axis_name)
    # The nearest on the sphere are the most similar.
    nearest = hardest_negatives(
      similarities(new_unit, gather(old_unit, self.axis_name)),
      same,
      self.negatives,
    )
    there = jnp.isfinite(nearest)
    apart = _root(2 - 2 * jnp.where(there, nearest, 0))
    near = _root(jnp.square(new_unit - old_unit).sum(axis=1, keepdims=True))
    triplet = global_mean(
      jnp.maximum(near - apart + self.margin, 0), there, self.axis_name
    )
    return Outcome(
      classification + self.weight * triplet,
      embeddings,
      metrics | {'triplet_loss': triplet},
    )


def _root(squared: jax.Array) -> jax.Array:
  """Distances of squared ones; at 0 a root's gradient is not finite."""
  return jnp.sqrt(jnp.maximum(squared, 1e-12))
