"""AdvBCT: an adversary and an elastic boundary round each old class.

Pan et al., "Boundary-aware backward-compatible representation via adversarial
learning in image retrieval", CVPR 2023, arXiv 2305.02610.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from advbct_jax.methods.method import Metrics, OldModel, Progress, Samples
from advbct_jax.models.discriminator import Discriminator
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.models.gradient_reversal import gradient_reversal
from advbct_jax.parallel import AXIS, global_mean

NEW, OLD = 0, 1


class AdvBCT(nn.Module):
  """The compatibility loss of AdvBCT, with the parameters that it learns.

  Attributes:
    classes: the number C of new classes.
    threshold: t, the radius that a fully open boundary has.
    discriminator_norm: `per_domain`, `joint` or `none`; see `Discriminator`.
    axis_name: the mapped axis, None outside of any.
  """

  classes: int
  threshold: float = 1.0
  discriminator_norm: str = 'per_domain'
  axis_name: str | None = AXIS

  @nn.compact
  def __call__(
    self, samples: Samples, old: OldModel, progress: Progress
  ) -> tuple[jax.Array, Metrics]:
    """Boundary loss plus weighted adversarial loss.

    Args:
      samples: this device's part of the batch.
      old: what is known of the old model.
      progress: how far the training is.

    Returns:
      This device's share of the loss, and of what is worth logging.
    """
    openness = self.param('boundary', _uniform_in_one, (self.classes,))
    boundary, metrics = elastic_boundary_loss(
      samples.embeddings,
      samples.labels,
      openness,
      old,
      self.threshold,
      self.axis_name,
    )
    discriminator = Discriminator(
      self.discriminator_norm, axis_name=self.axis_name, name='discriminator'
    )
    logits_new, logits_old = discriminator(
      gradient_reversal(
        samples.embeddings, reversal_strength(progress.fraction)
      ),
      samples.old_embeddings,
    )
    adversarial = adversarial_loss(logits_new, logits_old, self.axis_name)
    weight = adversarial_weight(progress.epoch, progress.epochs)
    return boundary + weight * adversarial, metrics | {
      'boundary_loss': boundary,
      'adversarial_loss': adversarial,
      'discriminator_accuracy': discriminator_accuracy(
        logits_new, logits_old, self.axis_name
      ),
    }


def elastic_boundary_loss(
  embeddings: jax.Array,
  labels: jax.Array,
  openness: jax.Array,
  old: OldModel,
  threshold: float,
  axis_name: str | None = None,
) -> tuple[jax.Array, Metrics]:
  """Pulls embeddings inside the boundary of their old class.

  The boundary of class y is a sphere round the old centre with radius
  R = r + σ(w)·(t − r), r the old class's largest radius. The loss is the mean
  of ‖f̂ − c‖ − R over the violators, those outside their boundary. Classes
  that the old model never saw, or with fewer than two radii, take no part.

  Args:
    embeddings: [B, D] f, not normalised.
    labels: [B] y.
    openness: [C] w, learnt.
    old: what is known of the old model.
    threshold: t.
    axis_name: the mapped axis, None outside of any.

  Returns:
    This device's share of the loss; metrics `violators` (the share of the
    eligible samples that lie outside) and `elastic_radius` (the mean R over
    the eligible samples).

  References:
    Pan et al., CVPR 2023; as in the published code.
  """
  statistics = old.statistics
  old_class = old.old_class[labels]
  eligible = (old_class >= 0) & (statistics.radius_count[old_class] >= 2)
  radius = statistics.radius_max[old_class]
  radius += nn.sigmoid(openness[labels]) * (threshold - radius)
  offset = l2_normalize(embeddings) - statistics.center[old_class]
  distance = jnp.sqrt(jnp.maximum(jnp.square(offset).sum(axis=-1), 1e-24))
  excess = distance - radius
  violates = eligible & (excess > 0)
  return global_mean(excess, violates, axis_name), {
    'violators': global_mean(violates.astype(jnp.float32), eligible, axis_name),
    'elastic_radius': global_mean(radius, eligible, axis_name),
  }


def adversarial_loss(
  logits_new: jax.Array, logits_old: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """The discriminator's negative log-likelihood, new and old added.

  Args:
    logits_new: [B, 2] over (new, old), of the new embeddings.
    logits_old: [B, 2] of the old embeddings.
    axis_name: the mapped axis, None outside of any.

  Returns:
    This device's share of the loss.

  References:
    Pan et al., CVPR 2023; as in the published code.

  >>> undecided = jnp.zeros((4, 2))
  >>> round(float(adversarial_loss(undecided, undecided)), 4)  # 2·ln 2
  1.3863
  """
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels
  new = cross_entropy(logits_new, jnp.full(len(logits_new), NEW))
  old = cross_entropy(logits_old, jnp.full(len(logits_old), OLD))
  return global_mean(new + old, axis_name=axis_name)


def discriminator_accuracy(
  logits_new: jax.Array, logits_old: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """The share of embeddings, new and old, that the discriminator tells."""
  new = logits_new.argmax(axis=-1) == NEW
  old = logits_old.argmax(axis=-1) == OLD
  return global_mean((new.astype(jnp.float32) + old) / 2, axis_name=axis_name)


def reversal_strength(fraction: jax.Array | float) -> jax.Array:
  """The strength of the gradient reversal, 2/(1 + e^(−10p)) − 1.

  Args:
    fraction: p, the part of the training that is done.

  Returns:
    A scalar from 0 to 1.

  References:
    Ganin and Lempitsky, ICML 2015.

  >>> round(float(reversal_strength(0.1)), 4)
  0.4621
  """
  return 2 / (1 + jnp.exp(-10 * jnp.asarray(fraction))) - 1


def adversarial_weight(epoch: jax.Array | int, epochs: int) -> jax.Array:
  """The weight of the adversarial loss, (E − e + 1)/E.

  Args:
    epoch: e, from 0.
    epochs: E.

  Returns:
    A scalar from (E + 1)/E down to 2/E.

  >>> round(float(adversarial_weight(3, 30)), 4)
  0.9333
  """
  return (epochs - jnp.asarray(epoch) + 1) / epochs


def _uniform_in_one(
  key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
  return jax.random.uniform(key, shape, dtype, minval=-1, maxval=1)
