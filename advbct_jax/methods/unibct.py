"""UniBCT: new embeddings are classified by the old class prototypes.

The loss of a sample of old class y, at an angle φ_k from the centre of class k,
is −log(e^(s·cos(φ_y + m)) / (e^(s·cos(φ_y + m)) + Σ_{k≠y} e^(s·cos φ_k))).

Zhang et al., "Towards universal backward-compatible representation learning",
IJCAI 2022, arXiv 2203.01583. As in the published code of AdvBCT, prototypes are
the old class centres throughout; the paper refines them by propagation.
"""

from typing import ClassVar

import optax

from advbct_jax.methods.margins import ArcFace
from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  Outcome,
  Progress,
  similarities,
)
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import global_mean


class UniBCT(Method):
  """Classification plus ArcFace against the old class centres.

  Attributes:
    scale: s, of the cosines.
    margin: m in radians, added to the angle of the own class.
    weight: of the latter.
  """

  label: ClassVar[str] = 'UniBCT'
  color: ClassVar[str] = '#CC79A7'

  scale: float = 30.0
  margin: float = 0.3
  weight: float = 1.0

  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean over the samples of old classes."""
    del progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    old_class = old.old_class[batch.labels]
    cosine = similarities(
      l2_normalize(self.compatible(embeddings)),
      l2_normalize(old.statistics.center),
    )
    logits = ArcFace(self.scale, self.margin)(cosine, old_class)
    prototype = global_mean(
      optax.softmax_cross_entropy_with_integer_labels(logits, old_class),
      old_class >= 0,
      self.axis_name,
    )
    return Outcome(
      classification + self.weight * prototype,
      embeddings,
      metrics | {'prototype_loss': prototype},
    )
