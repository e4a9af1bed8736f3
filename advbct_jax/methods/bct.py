"""BCT: the old classifier must know the new embeddings.

The loss of a sample of old class y is −log softmax(W_old·f)_y.

Shen et al., "Towards backward-compatible representation learning", CVPR 2020,
arXiv 2003.11942.
"""

from typing import ClassVar

import jax
import numpy as np
import optax

from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  Outcome,
  Progress,
  similarities,
)
from advbct_jax.parallel import global_mean


class BCT(Method):
  """Classification plus cross-entropy of the old classifier.

  Attributes:
    weight: of the latter.
  """

  label: ClassVar[str] = 'BCT'
  color: ClassVar[str] = '#56B4E9'
  without_classifier: ClassVar[str] = (
    'takes the centres of the classes in its stead'
  )

  weight: float = 1.0

  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean over the samples of old classes, as published."""
    del progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    influence = influence_loss(
      self.compatible(embeddings), batch.labels, old, self.axis_name
    )
    return Outcome(
      classification + self.weight * influence,
      embeddings,
      metrics | {'influence_loss': influence},
    )


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
    old: what is known of the old model.
    axis_name: the mapped axis, None outside of any.

  Returns:
    This device's share of the loss.

  References:
    Shen et al., CVPR 2020, the influence loss.
  """
  old_class = old.old_class[labels]
  loss = optax.softmax_cross_entropy_with_integer_labels(
    old_logits(embeddings, old), old_class
  )
  return global_mean(loss, old_class >= 0, axis_name)


def old_logits(embeddings: jax.Array, old: OldModel) -> jax.Array:
  """[B, C_old] what the old classifier says of [B, D] embeddings, W_old·f.

  The centres of the old classes stand in for it where it is not known.
  """
  classifier: jax.Array | np.ndarray | None = old.classifier
  if classifier is None:
    classifier = old.statistics.center
  return similarities(embeddings, classifier)
