"""Hot-refresh: contrast with the same image's old embedding.

The loss of a sample is −log(e^(f̂·ô/τ) / (e^(f̂·ô/τ) + Σ e^(f̂·ô⁻/τ) +
Σ e^(f̂·f̂⁻/τ))), with ô of the same image and the nearest old ô⁻ and new f̂⁻ of
other classes.

Zhang et al., "Hot-refresh model upgrades with regression-free compatible
training in image retrieval", ICLR 2022, arXiv 2201.09724.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  Outcome,
  Progress,
  similarities,
)
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import gather, global_mean


class HotRefresh(Method):
  """Classification plus contrast with old and new embeddings of the batch.

  Attributes:
    temperature: that similarities are divided by.
    negatives: how many of the most similar ones of other classes count, of the
      old and of the new ones each.
    new_negatives: whether new ones count at all.
    weight: of the contrast.
  """

  label: ClassVar[str] = 'Hot-refresh'
  color: ClassVar[str] = '#000000'

  temperature: float = 0.01
  negatives: int = 10
  new_negatives: bool = True
  weight: float = 1.0

  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean over all samples: of old classes or not, each has an ô."""
    del old, progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    new_unit = l2_normalize(self.compatible(embeddings))
    old_unit = l2_normalize(batch.old_embeddings)
    others = gather(batch.labels, self.axis_name)
    same = batch.labels[:, None] == others
    gathered = [gather(old_unit, self.axis_name)]
    if self.new_negatives:
      gathered.append(gather(new_unit, self.axis_name))
    negatives = [
      hardest_negatives(similarities(new_unit, them), same, self.negatives)
      for them in gathered
    ]
    positive = (new_unit * old_unit).sum(axis=-1, keepdims=True)
    logits = jnp.concatenate([positive, *negatives], axis=1) / self.temperature
    contrast = global_mean(
      -jax.nn.log_softmax(logits)[:, 0], axis_name=self.axis_name
    )
    return Outcome(
      classification + self.weight * contrast,
      embeddings,
      metrics | {'contrast_loss': contrast},
    )


def hardest_negatives(
  similarity: jax.Array, same: jax.Array, count: int
) -> jax.Array:
  """The largest similarities to embeddings of other classes.

  Args:
    similarity: [B, N].
    same: [B, N] whether both are of one class.
    count: how many, at most; fewer where the batch has fewer.

  Returns:
    [B, min(count, N)], −inf where there are not so many.
  """
  masked = jnp.where(same, -jnp.inf, similarity)
  return jax.lax.top_k(masked, min(count, similarity.shape[1]))[0]
