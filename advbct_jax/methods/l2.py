"""L2: new embeddings stay near the old ones of the same images.

The simplest anchor. MixBCT (Liang et al., "MixBCT: towards self-adapting
backward-compatible training", 2023, arXiv 2308.06948) has it as a baseline,
with a threshold as "weakened L2".
"""

from typing import ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp

from advbct_jax.methods.method import Metrics, OldModel, Progress, Samples
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import AXIS, global_mean


class L2(nn.Module):
  """The distance to the same image's old embedding.

  Attributes:
    classes: the number C of new classes, which it doesn't need.
    weight: of the loss.
    threshold: th, a distance that costs nothing.
    axis_name: the mapped axis, None outside of any.
  """

  label: ClassVar[str] = 'L2'
  color: ClassVar[str] = '#0072B2'

  classes: int
  weight: float = 10.0
  threshold: float = 0.0
  axis_name: str | None = AXIS

  def __call__(
    self, samples: Samples, old: OldModel, progress: Progress
  ) -> tuple[jax.Array, Metrics]:
    """The mean of max(‖f̂ − ô‖ − th, 0) over all samples.

    Args:
      samples: this device's part of the batch.
      old: what is known of the old model, which it doesn't need.
      progress: how far the training is.

    Returns:
      This device's share of the loss, and of what is worth logging.
    """
    del old, progress
    offset = l2_normalize(samples.embeddings) - l2_normalize(
      samples.old_embeddings
    )
    distance = jnp.sqrt(jnp.maximum(jnp.square(offset).sum(axis=-1), 1e-24))
    anchor = global_mean(
      jnp.maximum(distance - self.threshold, 0), axis_name=self.axis_name
    )
    return self.weight * anchor, {'anchor_loss': anchor}
