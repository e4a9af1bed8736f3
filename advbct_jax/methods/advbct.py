"""AdvBCT: an adversary and an elastic boundary round each old class.

Pan et al., "Boundary-aware backward-compatible representation via adversarial
learning in image retrieval", CVPR 2023, arXiv 2305.02610.
"""

from typing import Any, ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from advbct_jax.errors import InputError
from advbct_jax.methods.margins import ArcFace
from advbct_jax.methods.method import (
  Batch,
  Method,
  Metrics,
  OldModel,
  Outcome,
  Progress,
)
from advbct_jax.models.discriminator import Discriminator
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.models.gradient_reversal import gradient_reversal
from advbct_jax.parallel import global_mean

NEW, OLD = 0, 1

DISCRIMINATOR_INPUTS = ('raw', 'normalized')
RADII = ('elastic', 'largest', 'smallest')
BOUNDARY_MEANS = ('violators', 'eligible')
BOUNDARY_CENTERS = ('class', 'image')


class AdvBCT(Method):
  """Classification, boundary and adversary, with the parameters they learn.

  Attributes:
    threshold: t, the radius that a fully open boundary has.
    radius: `elastic`, or the `largest` or `smallest` radius of the old class
      as it is; the published code takes the smallest without elasticity.
    boundary_mean: over the `violators`, as published, which keeps the pull as
      strong while they grow few; or over all `eligible` samples.
    boundary_center: round what the boundary lies: the centre of the old
      `class`, as published, or the old embedding of the same `image`.
    boundary_weight: of the boundary loss.
    discriminator_input: `raw` embeddings, as published, or `normalized` ones,
      which is what is searched.
    discriminator_norm: `per_domain`, `joint` or `none`; see `Discriminator`.
    adversarial_weight: of the adversarial loss, times its schedule; with 0
      there is no discriminator.
    margin_scale: s of an ArcFace margin on the classification; 0, as published,
      takes the classifier's own logits.
    margin_size: m of that margin, in radians.
  """

  label: ClassVar[str] = 'AdvBCT'
  color: ClassVar[str] = '#D55E00'
  # What its part of a config is called.
  section: ClassVar[str] = 'advbct'
  class_parameters: ClassVar[tuple[str, ...]] = ('boundary',)

  threshold: float = 1.0
  radius: str = 'elastic'
  boundary_mean: str = 'violators'
  boundary_center: str = 'class'
  boundary_weight: float = 1.0
  discriminator_input: str = 'raw'
  discriminator_norm: str = 'per_domain'
  adversarial_weight: float = 1.0
  margin_scale: float = 0.0
  margin_size: float = 0.0

  def __post_init__(self) -> None:
    """Refuses options that are none."""
    super().__post_init__()
    for name, known in (
      ('discriminator_input', DISCRIMINATOR_INPUTS),
      ('radius', RADII),
      ('boundary_mean', BOUNDARY_MEANS),
      ('boundary_center', BOUNDARY_CENTERS),
    ):
      if getattr(self, name) not in known:
        raise InputError(
          f'config.{self.section}.{name} is {getattr(self, name)!r}; wanted: '
          f'one of {", ".join(known)}.'
        )

  @nn.compact
  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """Classification plus boundary loss plus weighted adversarial loss."""
    embeddings = self.encoder(batch.images, train=True)
    margin = (
      ArcFace(self.margin_scale, self.margin_size)
      if self.margin_scale
      else None
    )
    classification, metrics = self.classify(embeddings, batch.labels, margin)
    new = self.compatible(embeddings)
    boundary, boundary_metrics = boundary_loss(
      new,
      batch.labels,
      self._boundary_radius(batch.labels, old),
      old,
      self.boundary_mean == 'violators',
      l2_normalize(batch.old_embeddings)
      if self.boundary_center == 'image'
      else None,
      axis_name=self.axis_name,
    )
    loss = classification + self.boundary_weight * boundary
    metrics |= boundary_metrics | {'boundary_loss': boundary}
    if self.adversarial_weight:
      adversarial, adversary_metrics = self._oppose(
        new, batch.old_embeddings, progress
      )
      loss += adversarial
      metrics |= adversary_metrics
    return Outcome(loss, embeddings, metrics)

  def _oppose(
    self, new: jax.Array, known: jax.Array, progress: Progress
  ) -> tuple[jax.Array, Metrics]:
    """The weighted adversarial loss of new and old embeddings."""
    discriminator = Discriminator(
      self.discriminator_norm, axis_name=self.axis_name, name='discriminator'
    )
    if self.discriminator_input == 'normalized':
      new, known = l2_normalize(new), l2_normalize(known)
    logits_new, logits_old = discriminator(
      gradient_reversal(new, reversal_strength(progress.fraction)), known
    )
    adversarial = adversarial_loss(logits_new, logits_old, self.axis_name)
    weight = self.adversarial_weight * adversarial_weight(
      progress.epoch, progress.epochs
    )
    accuracy = discriminator_accuracy(logits_new, logits_old, self.axis_name)
    return weight * adversarial, {
      'adversarial_loss': adversarial,
      'discriminator_accuracy': accuracy,
    }

  def _boundary_radius(self, labels: jax.Array, old: OldModel) -> jax.Array:
    """[B] the radius of each sample's boundary."""
    old_class = old.old_class[labels]
    if self.radius == 'smallest':
      return old.statistics.radius_min[old_class]
    largest = old.statistics.radius_max[old_class]
    if self.radius == 'largest':
      return largest
    openness = self.class_parameter('boundary', _uniform_in_one, labels)
    return elastic_radius(largest, openness, self.threshold)


def elastic_radius(
  radius: jax.Array, openness: jax.Array, threshold: float
) -> jax.Array:
  """The radius of a boundary that can open, R = r + σ(w)·(t − r).

  Args:
    radius: [B] r, the largest radius of each sample's old class.
    openness: [B] w of its new class, learnt.
    threshold: t.

  Returns:
    [B] R, between r and t.

  References:
    Pan et al., CVPR 2023; as in the published code.

  >>> float(elastic_radius(jnp.array(0.5), jnp.array(0.0), 1.0))
  0.75
  """
  return radius + nn.sigmoid(openness) * (threshold - radius)


def boundary_loss(
  embeddings: jax.Array,
  labels: jax.Array,
  radius: jax.Array,
  old: OldModel,
  over_violators: bool = True,
  center: jax.Array | None = None,
  *,
  axis_name: str | None = None,
) -> tuple[jax.Array, Metrics]:
  """Pulls embeddings inside the boundary of their old class.

  The boundary of class y is a sphere round the old centre with radius R. The
  loss is the mean of ‖f̂ − c‖ − R, where that is positive, over the violators
  (those outside their boundary) or over all eligible samples. Classes that the
  old model never saw, or with fewer than two radii, take no part.

  Args:
    embeddings: [B, D] f, not normalised.
    labels: [B] y.
    radius: [B] R of each sample's class.
    old: what is known of the old model.
    over_violators: what the mean is over.
    center: [B, D] c of each sample, of length 1; None for the old class's.
    axis_name: the mapped axis, None outside of any.

  Returns:
    This device's share of the loss; metrics `violators` (the share of the
    eligible samples that lie outside) and `boundary_radius` (the mean R over
    the eligible samples).

  References:
    Pan et al., CVPR 2023; as in the published code.
  """
  statistics = old.statistics
  old_class = old.old_class[labels]
  eligible = (old_class >= 0) & (statistics.radius_count[old_class] >= 2)
  center = statistics.center[old_class] if center is None else center
  offset = l2_normalize(embeddings) - center
  distance = jnp.sqrt(jnp.maximum(jnp.square(offset).sum(axis=-1), 1e-24))
  excess = distance - radius
  violates = eligible & (excess > 0)
  loss = global_mean(
    jnp.where(violates, excess, 0),
    violates if over_violators else eligible,
    axis_name,
  )
  return loss, {
    'violators': global_mean(violates.astype(jnp.float32), eligible, axis_name),
    'boundary_radius': global_mean(radius, eligible, axis_name),
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
