"""LCE: angular boundaries of the old classes, and aligned classifier weights.

Meng et al., "Learning compatible embeddings", ICCV 2021, arXiv 2108.01958.
"""

from typing import ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp

from advbct_jax.methods.method import Metrics, OldModel, Progress, Samples
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import AXIS, global_mean

# The derivative of arccos has no bound at ±1.
_MARGIN_OF_ARCCOS = 1e-7


class LCE(nn.Module):
  """Keeps new embeddings within the angle that an old class spans.

  Attributes:
    classes: the number C of new classes, which it doesn't need.
    boundary_weight: of the boundary loss.
    alignment_weight: of the alignment loss.
    axis_name: the mapped axis, None outside of any.
  """

  label: ClassVar[str] = 'LCE'
  color: ClassVar[str] = '#E69F00'

  classes: int
  boundary_weight: float = 1.0
  alignment_weight: float = 1.0
  axis_name: str | None = AXIS

  def __call__(
    self, samples: Samples, old: OldModel, progress: Progress
  ) -> tuple[jax.Array, Metrics]:
    """Boundary loss plus alignment loss over the eligible samples.

    Samples of classes that the old model never saw, or with fewer than two
    kept angles, take no part.

    Args:
      samples: this device's part of the batch.
      old: what is known of the old model.
      progress: how far the training is.

    Returns:
      This device's share of the loss, and of what is worth logging.
    """
    del progress
    old_class = old.old_class[samples.labels]
    eligible = (old_class >= 0) & (old.statistics.theta_count[old_class] >= 2)
    center = l2_normalize(old.statistics.center[old_class])
    boundary = global_mean(
      angle_beyond(
        samples.embeddings, center, old.statistics.theta_max[old_class]
      ),
      eligible,
      self.axis_name,
    )
    assert samples.classifier is not None
    weights = l2_normalize(samples.classifier.T[samples.labels])
    alignment = global_mean(
      1 - (center * weights).sum(axis=-1), eligible, self.axis_name
    )
    loss = self.boundary_weight * boundary + self.alignment_weight * alignment
    return loss, {'boundary_loss': boundary, 'alignment_loss': alignment}


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
  limit = 1 - _MARGIN_OF_ARCCOS
  return jnp.maximum(jnp.arccos(jnp.clip(cosine, -limit, limit)) - theta, 0)
