"""LCE: angular boundaries of the old classes, and aligned classifier weights.

Meng et al., "Learning compatible embeddings", ICCV 2021, arXiv 2108.01958.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from advbct_jax.methods.margins import safe_arccos
from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  Outcome,
  Progress,
)
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import global_mean


class LCE(Method):
  """Classification, within the angles that the old classes span.

  Attributes:
    boundary_weight: of the boundary loss.
    alignment_weight: of the alignment loss.
  """

  label: ClassVar[str] = 'LCE'
  color: ClassVar[str] = '#E69F00'

  boundary_weight: float = 1.0
  alignment_weight: float = 1.0

  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """Boundary loss plus alignment loss over the eligible samples.

    Samples of classes that the old model never saw, or with fewer than two
    kept angles, take no part.
    """
    del progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    old_class = old.old_class[batch.labels]
    eligible = (old_class >= 0) & (old.statistics.theta_count[old_class] >= 2)
    center = l2_normalize(old.statistics.center[old_class])
    boundary = global_mean(
      angle_beyond(
        self.compatible(embeddings),
        center,
        old.statistics.theta_max[old_class],
      ),
      eligible,
      self.axis_name,
    )
    weights = l2_normalize(self.compatible(self.class_weights(batch.labels)))
    alignment = global_mean(
      1 - (center * weights).sum(axis=-1), eligible, self.axis_name
    )
    return Outcome(
      classification
      + (self.boundary_weight * boundary + self.alignment_weight * alignment),
      embeddings,
      metrics | {'boundary_loss': boundary, 'alignment_loss': alignment},
    )


def angle_beyond(
  embeddings: jax.Array, center: jax.Array, theta: jax.Array
) -> jax.Array:
  """How far embeddings lie outside of a cone, max(arccos(ĉ·f̂) − θ, 0).

  Args:
    embeddings: [B, D] f, not normalised.
    center: [B, D] ĉ, of length 1.
    theta: [B] θ in radians.

  Returns:
    [B] radians.

  References:
    Meng et al., ICCV 2021; as in the published code of AdvBCT.
  """
  cosine = (l2_normalize(embeddings) * center).sum(axis=-1)
  return jnp.maximum(safe_arccos(cosine) - theta, 0)
