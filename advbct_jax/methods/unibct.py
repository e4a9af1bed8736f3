"""UniBCT: new embeddings are classified by the old class prototypes.

The loss of a sample of class y, at an angle φ_k from the prototype of class k,
is −log(e^(s·cos(φ_y + m)) / (e^(s·cos(φ_y + m)) + Σ_{k≠y} e^(s·cos φ_k))).

Zhang et al., "Towards universal backward-compatible representation learning",
IJCAI 2022, arXiv 2203.01583. As in the published code of AdvBCT, prototypes are
the centres of the old classes throughout, unless `refinement_epochs` are given.
The paper's are 10 and 20 of 30: the loss counts from the first of them on, and
before each the prototypes become the class means of

  (1 − λ)(I − λA)⁻¹·V_old,  A = softmax(f̂f̂ᵀ/τ) with its diagonal masked,

so that old embeddings which lie astray are drawn to those of the images that
the new encoder finds alike.

Of what is said here of the refinement nothing comes from published code. Ours
to choose was: V_old are normalised, as for the centres; f̂ is all of the new
embedding, free components too; refined prototypes are of all classes and the
loss of all samples, for a class that the old model never saw has old embeddings
as well, and serving such open sets is what the paper is about.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from advbct_jax.embeddings.class_statistics import class_means
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.methods.margins import ArcFace, Margin
from advbct_jax.methods.method import (
  MEMORY,
  Batch,
  Memory,
  Method,
  OldModel,
  OldSide,
  Outcome,
  Progress,
  similarities,
)
from advbct_jax.methods.propagation import propagate, transition
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import global_mean

# Of more images all neighbours of all are not held in memory: 1.6 GB here.
_MOST_DENSE = 20_000


class UniBCT(Method):
  """Classification plus ArcFace against prototypes in the old space.

  Attributes:
    scale: s, of the cosines.
    margin: m in radians, added to the angle of the own class.
    weight: of the latter.
    refinement_epochs: before which prototypes are refined, from 0; (10, 20) in
      the paper, of 30. None: they stay the centres of the old classes.
    propagation: λ, the share that an embedding takes over from others.
    temperature: τ, of their similarity.
    neighbors: how many others an embedding takes over from; 0 for all, which
      takes N² × 4 bytes.
  """

  label: ClassVar[str] = 'UniBCT'
  color: ClassVar[str] = '#CC79A7'

  scale: float = 30.0
  margin: float = 0.3
  weight: float = 1.0
  refinement_epochs: tuple[int, ...] = ()
  propagation: float = 0.9
  temperature: float = 0.05
  neighbors: int = 0

  def __post_init__(self) -> None:
    """Refuses options that are none."""
    super().__post_init__()
    if not 0 <= self.propagation < 1:
      raise InputError(
        f'config.unibct.propagation is {self.propagation}; wanted: a share '
        'from 0 to less than 1.'
      )

  @property
  def refresh_epochs(self) -> tuple[int, ...]:
    """The epochs before which prototypes are refined."""
    return tuple(self.refinement_epochs)

  def prepare(self, side: OldSide) -> Any:
    """Nothing; but it refuses what could not be refined, before it is due.

    Raises:
      InputError: if all neighbours of so many images cannot be held.
    """
    count = len(side.embeddings)
    if self.refresh_epochs and not self.neighbors and count > _MOST_DENSE:
      raise InputError(
        f'config.unibct.neighbors is 0, so that each of {count} training '
        f'images would take over from all others, which takes {count}² × 4 '
        f'bytes; wanted, for more than {_MOST_DENSE} images: how many of the '
        'nearest, such as 100.'
      )

  def refresh(
    self, memory: Memory, side: OldSide, embed: Callable[[], np.ndarray]
  ) -> Memory:
    """Refines the prototypes by what the new encoder says by now."""
    del memory
    trained = side.labels >= 0
    refined = propagate(
      transition(embed()[trained], self.temperature, self.neighbors),
      unit_rows(side.embeddings[trained]),
      self.propagation,
    )
    return {
      'prototypes': class_means(refined, side.labels[trained], self.classes)
    }

  @nn.compact
  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean over the samples of old classes, or of all if refined."""
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    prototypes: jax.Array | np.ndarray = old.statistics.center
    classes = old.old_class[batch.labels]
    if self.refresh_epochs:
      prototypes = self.variable(
        MEMORY,
        'prototypes',
        jnp.zeros,
        (self.classes, batch.old_embeddings.shape[1]),
      ).value
      classes = batch.labels
    prototype = prototype_loss(
      self.compatible(embeddings),
      classes,
      prototypes,
      ArcFace(self.scale, self.margin),
      self.axis_name,
    )
    if self.refresh_epochs:
      prototype *= self._begun(progress)
    return Outcome(
      classification + self.weight * prototype,
      embeddings,
      metrics | {'prototype_loss': prototype},
    )

  def _begun(self, progress: Progress) -> jax.Array:
    """Whether there are refined prototypes by now."""
    first = min(self.refresh_epochs)
    if first >= progress.epochs:
      raise InputError(
        f'config.unibct.refinement_epochs begin at {first}, but the training '
        f'has {progress.epochs} epochs, so that nothing would tie it to the '
        'old encoder; wanted: a first epoch, from 0, that it has.'
      )
    return progress.epoch >= first


def prototype_loss(
  embeddings: jax.Array,
  classes: jax.Array,
  prototypes: jax.Array | np.ndarray,
  margin: Margin,
  axis_name: str | None = None,
) -> jax.Array:
  """Cross-entropy of the cosines to prototypes, with a margin.

  Args:
    embeddings: [B, D] f, not normalised.
    classes: [B] which prototype is its own; −1 for a sample to leave out.
    prototypes: [K, D], not normalised. No gradient is theirs.
    margin: makes logits of the cosines.
    axis_name: the mapped axis, None outside of any.

  Returns:
    This device's share of the mean.
  """
  cosine = similarities(l2_normalize(embeddings), l2_normalize(prototypes))
  loss = optax.softmax_cross_entropy_with_integer_labels(
    margin(cosine, classes), classes
  )
  return global_mean(loss, classes >= 0, axis_name)
