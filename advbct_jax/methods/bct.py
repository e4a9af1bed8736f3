"""BCT: the old classifier must know the new embeddings.

The loss of a sample of old class y is −log softmax(W_old·f)_y.

Shen et al., "Towards backward-compatible representation learning", CVPR 2020,
arXiv 2003.11942.
"""

from typing import ClassVar

from flax import linen as nn
import jax
import optax

from advbct_jax.methods.method import Metrics, OldModel, Progress, Samples
from advbct_jax.parallel import AXIS, global_mean


class BCT(nn.Module):
  """Cross-entropy of the old classifier on new embeddings.

  Attributes:
    classes: the number C of new classes, which it doesn't need.
    weight: of the loss.
    axis_name: the mapped axis, None outside of any.
  """

  label: ClassVar[str] = 'BCT'
  color: ClassVar[str] = '#56B4E9'
  uses_old_classifier: ClassVar[bool] = True

  classes: int
  weight: float = 1.0
  axis_name: str | None = AXIS

  def __call__(
    self, samples: Samples, old: OldModel, progress: Progress
  ) -> tuple[jax.Array, Metrics]:
    """The mean over the samples of old classes, as published.

    Args:
      samples: this device's part of the batch.
      old: what is known of the old model; its classifier, or the class means
        where it has none.
      progress: how far the training is.

    Returns:
      This device's share of the loss, and of what is worth logging.
    """
    del progress
    influence = influence_loss(
      samples.embeddings, samples.labels, old, self.axis_name
    )
    return self.weight * influence, {'influence_loss': influence}


def influence_loss(
  embeddings: jax.Array,
  labels: jax.Array,
  old: OldModel,
  axis_name: str | None = None,
) -> jax.Array:
  """Cross-entropy of W_old·f over the samples of old classes.

  Args:
    embeddings: [B, D] f, not normalised.
    labels: [B] new classes.
    old: what is known of the old model. The centres of its classes stand in
      for its classifier where that is not known.
    axis_name: the mapped axis, None outside of any.

  Returns:
    This device's share of the loss.

  References:
    Shen et al., CVPR 2020, the influence loss.
  """
  old_class = old.old_class[labels]
  classifier = old.classifier
  if classifier is None:
    classifier = old.statistics.center
  loss = optax.softmax_cross_entropy_with_integer_labels(
    embeddings @ classifier.T, old_class
  )
  return global_mean(loss, old_class >= 0, axis_name)
