"""LwF: the old classifier says of new embeddings what it said of old ones.

The loss of a sample is the cross-entropy of softmax(W_old·ô/T), of the same
image's old embedding, and softmax(W_old·f/T). At the published T = 0.01 the
former is all but one class, the one that the old model takes the image for:
where BCT has the true class, this has the old model's guess, so that images of
classes which it never saw take part as well.

Li and Hoiem, "Learning without forgetting", TPAMI 2018, arXiv 1606.09282; a
baseline of Hot-refresh (Zhang et al., ICLR 2022, arXiv 2201.09724), as in the
code that its authors published. That has a temperature for each softmax, both
of 0.01 by default, and embeddings that are not normalised; so here, with one
temperature for both.
"""

from typing import ClassVar

import jax
import optax

from advbct_jax.methods.bct import BCT, old_logits
from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  Outcome,
  Progress,
)
from advbct_jax.parallel import global_mean


class LwF(Method):
  """Classification plus distillation of the old classifier's output.

  Attributes:
    temperature: T, that both outputs are divided by.
    weight: of the distillation.
  """

  label: ClassVar[str] = 'LwF'
  color: ClassVar[str] = '#888888'
  without_classifier: ClassVar[str] = BCT.without_classifier

  temperature: float = 0.01
  weight: float = 1.0

  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean over all samples: of old classes or not, each has an ô."""
    del progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    targets, logits = (
      old_logits(each, old) / self.temperature
      for each in (batch.old_embeddings, self.compatible(embeddings))
    )
    distillation = global_mean(
      optax.softmax_cross_entropy(logits, jax.nn.softmax(targets)),
      axis_name=self.axis_name,
    )
    return Outcome(
      classification + self.weight * distillation,
      embeddings,
      metrics | {'distillation_loss': distillation},
    )
