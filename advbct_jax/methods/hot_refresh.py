"""Hot-refresh: contrast with the same image's old embedding.

The loss of a sample is −log(e^(f̂·ô/τ) / (e^(f̂·ô/τ) + Σ e^(f̂·ô⁻/τ) +
Σ e^(f̂·f̂⁻/τ))), with ô of the same image and the nearest old ô⁻ and new f̂⁻ of
other classes.

Zhang et al., "Hot-refresh model upgrades with regression-free compatible
training in image retrieval", ICLR 2022, arXiv 2201.09724.
"""

from typing import ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp

from advbct_jax.methods.method import Metrics, OldModel, Progress, Samples
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import AXIS, gather, global_mean


class HotRefresh(nn.Module):
  """Contrast of new embeddings with old and new ones of the batch.

  Attributes:
    classes: the number C of new classes, which it doesn't need.
    temperature: that similarities are divided by.
    negatives: how many of the most similar ones of other classes count, of the
      old and of the new ones each.
    new_negatives: whether new ones count at all.
    weight: of the loss.
    axis_name: the mapped axis, None outside of any.
  """

  label: ClassVar[str] = 'Hot-refresh'
  color: ClassVar[str] = '#000000'

  classes: int
  temperature: float = 0.01
  negatives: int = 10
  new_negatives: bool = True
  weight: float = 1.0
  axis_name: str | None = AXIS

  def __call__(
    self, samples: Samples, old: OldModel, progress: Progress
  ) -> tuple[jax.Array, Metrics]:
    """The mean over all samples; old classes or not, all have an old embedding.

    Args:
      samples: this device's part of the batch.
      old: what is known of the old model, which it doesn't need.
      progress: how far the training is.

    Returns:
      This device's share of the loss, and of what is worth logging.
    """
    del old, progress
    new_unit = l2_normalize(samples.embeddings)
    old_unit = l2_normalize(samples.old_embeddings)
    others = gather(samples.labels, self.axis_name)
    same = samples.labels[:, None] == others
    gathered = [gather(old_unit, self.axis_name)]
    if self.new_negatives:
      gathered.append(gather(jax.lax.stop_gradient(new_unit), self.axis_name))
    negatives = [
      hardest_negatives(new_unit @ them.T, same, self.negatives)
      for them in gathered
    ]
    positive = (new_unit * old_unit).sum(axis=-1, keepdims=True)
    logits = jnp.concatenate([positive, *negatives], axis=1) / self.temperature
    contrast = global_mean(
      -jax.nn.log_softmax(logits)[:, 0], axis_name=self.axis_name
    )
    return self.weight * contrast, {'contrast_loss': contrast}


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
