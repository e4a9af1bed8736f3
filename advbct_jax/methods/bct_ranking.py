"""BCT with ranking: the old class must also outdo all wrong new ones.

The loss of a sample of class y, the old model's y', with z the logits of the
new classifier, is

  −log(e^(W_old·f)_y' / (Σ_k e^(W_old·f)_k + Σ_{k≠y} e^(z_k))):

BCT, where the wrong classes of the new classifier are further negatives.
Zhang et al., "Hot-refresh model upgrades with regression-free compatible
training in image retrieval", ICLR 2022, arXiv 2201.09724, call such negatives
from the new side regression-alleviating; this form of them is that of the code
that they published (OpenCompatible). Their old classes are the first of the new
ones; here, as for BCT, they are looked up, and samples of classes that the old
model never saw take no part. The gradient goes through both logits, as there.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
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


class BCTRanking(Method):
  """Classification plus cross-entropy of old logits and wrong new ones.

  Attributes:
    weight: of the latter.
  """

  label: ClassVar[str] = 'BCT + ranking'
  color: ClassVar[str] = '#88CCEE'
  without_classifier: ClassVar[str] = BCT.without_classifier
  needs_whole_classes: ClassVar[str] = (
    'one softmax is over old classes and all new ones'
  )

  weight: float = 1.0

  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean over the samples of old classes."""
    del progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    own = jax.nn.one_hot(batch.labels, self.classes, dtype=bool)
    wrong = jnp.where(own, -jnp.inf, self.classifier(embeddings))
    known = old_logits(self.compatible(embeddings), old)
    # The old model's number of a class is its place among both logits, too.
    old_class = old.old_class[batch.labels]
    ranking = global_mean(
      optax.softmax_cross_entropy_with_integer_labels(
        jnp.concatenate([known, wrong], axis=1), old_class
      ),
      old_class >= 0,
      self.axis_name,
    )
    return Outcome(
      classification + self.weight * ranking,
      embeddings,
      metrics | {'ranking_loss': ranking},
    )
