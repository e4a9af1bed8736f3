"""UniBCT: new embeddings are classified by the old class prototypes.

The loss of a sample of old class y, at an angle φ_k from the centre of class k,
is −log(e^(s·cos(φ_y + m)) / (e^(s·cos(φ_y + m)) + Σ_{k≠y} e^(s·cos φ_k))).

Zhang et al., "Towards universal backward-compatible representation learning",
IJCAI 2022, arXiv 2203.01583. As in the published code of AdvBCT, prototypes are
the old class centres throughout; the paper refines them by propagation.
"""

from typing import ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from advbct_jax.methods.method import Metrics, OldModel, Progress, Samples
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import AXIS, global_mean

_MARGIN_OF_ARCCOS = 1e-7


class UniBCT(nn.Module):
  """ArcFace of new embeddings against the old class centres.

  Attributes:
    classes: the number C of new classes, which it doesn't need.
    scale: s, of the cosines.
    margin: m in radians, added to the angle of the own class.
    weight: of the loss.
    axis_name: the mapped axis, None outside of any.
  """

  label: ClassVar[str] = 'UniBCT'
  color: ClassVar[str] = '#CC79A7'

  classes: int
  scale: float = 30.0
  margin: float = 0.3
  weight: float = 1.0
  axis_name: str | None = AXIS

  def __call__(
    self, samples: Samples, old: OldModel, progress: Progress
  ) -> tuple[jax.Array, Metrics]:
    """The mean over the samples of old classes.

    Args:
      samples: this device's part of the batch.
      old: what is known of the old model.
      progress: how far the training is.

    Returns:
      This device's share of the loss, and of what is worth logging.
    """
    del progress
    old_class = old.old_class[samples.labels]
    cosine = (
      l2_normalize(samples.embeddings) @ l2_normalize(old.statistics.center).T
    )
    logits = arcface_logits(cosine, old_class, self.scale, self.margin)
    prototype = global_mean(
      optax.softmax_cross_entropy_with_integer_labels(logits, old_class),
      old_class >= 0,
      self.axis_name,
    )
    return self.weight * prototype, {'prototype_loss': prototype}


def arcface_logits(
  cosine: jax.Array, labels: jax.Array, scale: float, margin: float
) -> jax.Array:
  """Scaled cosines, that of the own class at an angle wider by a margin.

  Args:
    cosine: [B, C] cosines.
    labels: [B] own classes.
    scale: s.
    margin: m in radians.

  Returns:
    [B, C] logits.

  References:
    Deng et al., "ArcFace", CVPR 2019.

  >>> logits = arcface_logits(jnp.array([[0.5, 0.5]]), jnp.array([0]), 2, 0.3)
  >>> [round(float(logit), 4) for logit in logits[0]]
  [0.4435, 1.0]
  """
  limit = 1 - _MARGIN_OF_ARCCOS
  angle = jnp.arccos(jnp.clip(cosine, -limit, limit))
  own = jax.nn.one_hot(labels, cosine.shape[1], dtype=bool)
  return scale * jnp.where(own, jnp.cos(angle + margin), cosine)
