"""No tie to any old model: plain classification.

It trains old encoders, and the independent new encoder (M*) that compatible
ones are measured against.
"""

from typing import ClassVar

from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  Outcome,
  Progress,
)


class Independent(Method):
  """Classification alone."""

  label: ClassVar[str] = 'Independent'
  color: ClassVar[str] = '#009E73'
  needs_old_model: ClassVar[bool] = False

  def __call__(
    self, batch: Batch, old: OldModel | None, progress: Progress
  ) -> Outcome:
    """The mean cross-entropy of the classifier."""
    del old, progress
    embeddings = self.encoder(batch.images, train=True)
    loss, metrics = self.classify(embeddings, batch.labels)
    return Outcome(loss, embeddings, metrics)
