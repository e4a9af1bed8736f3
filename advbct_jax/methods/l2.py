"""L2: new embeddings stay near the old ones of the same images.

The loss of a sample is max(‖f̂ − ô‖ − th, 0): the simplest anchor. MixBCT (Liang
et al., "MixBCT: towards self-adapting backward-compatible training", 2023,
arXiv 2308.06948) has it as a baseline with th = 0, and with a threshold as
"weakened L2", where each new embedding is free within a ball round the old one.
"""

from typing import ClassVar

import jax.numpy as jnp

from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  Outcome,
  Progress,
)
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import global_mean


class L2(Method):
  """Classification plus the distance to the same image's old embedding.

  Attributes:
    weight: of the distance.
    threshold: th, a distance that costs nothing.
  """

  label: ClassVar[str] = 'L2'
  color: ClassVar[str] = '#0072B2'

  weight: float = 10.0
  threshold: float = 0.0

  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean of max(‖f̂ − ô‖ − th, 0) over all samples, old classes or not."""
    del old, progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    offset = l2_normalize(self.compatible(embeddings)) - l2_normalize(
      batch.old_embeddings
    )
    # The gradient of a root at 0 is not finite.
    distance = jnp.sqrt(jnp.maximum(jnp.square(offset).sum(axis=-1), 1e-24))
    anchor = global_mean(
      jnp.maximum(distance - self.threshold, 0), axis_name=self.axis_name
    )
    return Outcome(
      classification + self.weight * anchor,
      embeddings,
      metrics | {'anchor_loss': anchor},
    )


class WeakenedL2(L2):
  """L2 within a published threshold.

  Attributes: those of `L2`.
  """

  label: ClassVar[str] = 'Weakened L2'
  color: ClassVar[str] = '#6699CC'

  threshold: float = 0.2
