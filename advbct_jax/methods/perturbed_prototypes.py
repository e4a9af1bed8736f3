"""Perturbed prototypes: old classes that lie close are moved apart.

A new encoder that is tied to the old prototypes inherits their crowding. Tied
to p̃_k instead, prototypes pushed away from those of other classes, old and new,
it need not. How far and where to is what `odpp` and `ndpp` differ in. The loss
of a sample of old class y is

  −log(e^(f̂·p̃_y/T) / Σ_k e^(f̂·p̃_k/T)).

Zhou et al., "Prototype perturbation for relaxing alignment constraints in
backward-compatible learning", 2025, arXiv 2503.14824. Written from its abstract
and from the code that its authors published with PrunNet, whose T is 0.07; that
takes p̃ for the own class alone and p_k for the others, where the abstract has
one space of perturbed prototypes, as here.

Ours to choose was: prototypes have length 1. Old ones are the centres of the
old classes, so that old vectors and their classes are all that must be known.
New ones, of all classes, are the means of what the new encoder says of the
training images, in the part that old embeddings are like. They are taken before
each of `perturbation_epochs`; until the first of them p̃ comes from the old
prototypes alone, for a new encoder that has not been trained has nothing to
say.
"""

import abc
from collections.abc import Callable
from typing import Any

from flax import linen as nn
import jax.numpy as jnp
import numpy as np

from advbct_jax.embeddings.class_statistics import class_means
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.methods.margins import CosFace
from advbct_jax.methods.method import (
  MEMORY,
  Batch,
  Memory,
  Method,
  OldModel,
  OldSide,
  Outcome,
  Progress,
)
from advbct_jax.methods.unibct import prototype_loss


class PerturbedPrototypes(Method):
  """Classification plus cross-entropy of old prototypes that were moved.

  A subclass says how they are moved.

  Attributes:
    temperature: T, that cosines to prototypes are divided by.
    weight: of that loss.
    perturbation_epochs: before which the prototypes are moved anew, from where
      they were at first, away from the new ones of then; from 0.
  """

  temperature: float = 0.07
  weight: float = 1.0
  perturbation_epochs: tuple[int, ...] = (10, 20)

  @abc.abstractmethod
  def move_apart(
    self, old: np.ndarray, others: np.ndarray, own: np.ndarray
  ) -> np.ndarray:
    """Moves old prototypes away from those of other classes.

    Args:
      old: [K, D] of the old classes, of length 1; 0 for one without images.
      others: [M, D] new prototypes, of length 1; M may be 0.
      own: [M] the old number of the class of each of these, −1 for none.

    Returns:
      [K, D] of length 1.
    """

  @property
  def refresh_epochs(self) -> tuple[int, ...]:
    """The epochs before which prototypes are moved anew."""
    return tuple(self.perturbation_epochs)

  def prepare(self, side: OldSide) -> Any:
    """[C_old, D_old] prototypes that only keep away from one another."""
    old = unit_rows(np.asarray(side.model.statistics.center))
    return self._perturbed(old, old[:0], np.zeros(0, int))

  def refresh(
    self, memory: Memory, side: OldSide, embed: Callable[[], np.ndarray]
  ) -> Memory:
    """Moves the prototypes anew, away from the new ones of now too."""
    del memory
    trained = side.labels >= 0
    embeddings = unit_rows(embed()[trained, : self.compatible_dimension])
    new = unit_rows(class_means(embeddings, side.labels[trained], self.classes))
    old = unit_rows(np.asarray(side.model.statistics.center))
    own = np.asarray(side.model.old_class)
    return {'prototypes': self._perturbed(old, new, own)}

  def _perturbed(
    self, old: np.ndarray, others: np.ndarray, own: np.ndarray
  ) -> np.ndarray:
    return self.move_apart(old, others, own).astype(np.float32)

  @nn.compact
  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean over the samples of old classes."""
    del progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    prototypes = self.variable(
      MEMORY, 'prototypes', jnp.asarray, old.prepared
    ).value
    prototype = prototype_loss(
      self.compatible(embeddings),
      old.old_class[batch.labels],
      prototypes,
      CosFace(1 / self.temperature, 0.0),
      self.axis_name,
    )
    return Outcome(
      classification + self.weight * prototype,
      embeddings,
      metrics | {'prototype_loss': prototype},
    )
