"""ODPP: prototypes are moved apart by an optimisation.

Offsets δ_k of the old prototypes p_k, 0 at first, are learned by Adam so that
no two prototypes are too alike: with p̃_k = (p_k + δ_k) / ‖p_k + δ_k‖, the loss
of a batch of old classes i is the mean of max(p̃_i·p̃_j − t, 0) plus that of
max(p̃_i·r_l − t, 0), where for each i another old class j and a new prototype
r_l of another class are drawn at random.

Zhou et al., arXiv 2503.14824 (see `perturbed_prototypes`): optimization-driven
prototype perturbation. Threshold, rate, epochs, batch and the weight of 1 of
both terms are those of the code that the authors published with PrunNet. What
that does otherwise, and is mended here:

- its prototypes and their sums with offsets are not normalised, so that a
  product falls when a prototype becomes shorter, without any turning;
- it goes through the new prototypes batch by batch, but only the last batch
  counts in the loss;
- the new prototype of the same class is pushed away as well, and so may a
  prototype be from itself;
- partners are drawn within the batch, and classes that don't fill a last batch
  are left out; here every class has partners among all, once an epoch.
"""

from typing import ClassVar

import numpy as np

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.methods.perturbed_prototypes import PerturbedPrototypes

# Offsets follow from the prototypes alone, also where a run is resumed.
_SEED = 0
_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8


class ODPP(PerturbedPrototypes):
  """Perturbed prototypes whose offsets are learned.

  Attributes: those of `PerturbedPrototypes`, and
    threshold: t, a cosine that costs nothing.
    learning_rate: of Adam.
    rounds: epochs over the old classes.
    batch: how many old classes a step of Adam is for.
  """

  label: ClassVar[str] = 'ODPP'
  color: ClassVar[str] = '#CC6677'

  threshold: float = 0.9
  learning_rate: float = 1e-3
  rounds: int = 100
  batch: int = 1024

  def __post_init__(self) -> None:
    """Refuses options that are none."""
    super().__post_init__()
    if self.batch < 1:
      raise InputError(
        f'config.odpp.batch is {self.batch}; wanted: at least 1.'
      )

  def move_apart(
    self, old: np.ndarray, others: np.ndarray, own: np.ndarray
  ) -> np.ndarray:
    """Learns the offsets."""
    random = np.random.default_rng(_SEED)
    offsets, momentum, squares = np.zeros((3, *old.shape))
    # The others have had no gradient yet, so that Adam leaves them at 0.
    pushed = np.zeros(len(old), bool)
    step = 0
    for _ in range(self.rounds):
      order = random.permutation(len(old))
      for start in range(0, len(old), self.batch):
        classes = order[start : start + self.batch]
        partners = draw_partners(random, classes, len(old), own)
        rows, gradient = crowding_gradient(
          old, offsets, others, classes, *partners, self.threshold
        )
        step += 1
        pushed[rows] = True
        moving = np.flatnonzero(pushed)
        slopes = np.zeros((len(moving), old.shape[1]))
        slopes[np.searchsorted(moving, rows)] = gradient
        momentum[moving] += (1 - _DECAY) * (slopes - momentum[moving])
        squares[moving] += (1 - _SQUARE_DECAY) * (slopes**2 - squares[moving])
        size = np.sqrt(squares[moving] / (1 - _SQUARE_DECAY**step)) + _EPSILON
        direction = momentum[moving] / (1 - _DECAY**step) / size
        offsets[moving] -= self.learning_rate * direction
    return unit_rows(old + offsets)


def draw_partners(
  random: np.random.Generator, classes: np.ndarray, count: int, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Draws what each old class keeps away from.

  Args:
    random: what draws.
    classes: [B] old classes.
    count: the number of all old classes.
    own: [M] the old number of the class of each new prototype, −1 for none.

  Returns:
    [B] other old classes, and [B] new prototypes; −1 where there is none of
    another class, or the one that was drawn is of the same.
  """
  nothing = np.full(len(classes), -1)
  old = new = nothing
  if count > 1:
    steps = random.integers(1, count, len(classes))
    old = (classes + steps) % count
  if len(own):
    new = random.integers(0, len(own), len(classes))
    new = np.where(own[new] == classes, -1, new)
  return old, new


def crowding_gradient(
  old: np.ndarray,
  offsets: np.ndarray,
  others: np.ndarray,
  classes: np.ndarray,
  old_partners: np.ndarray,
  new_partners: np.ndarray,
  threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
  """The gradient of how much pairs of prototypes exceed a cosine.

  The loss is the mean of max(cos − t, 0) over the pairs of old prototypes plus
  that over the pairs of an old and a new one.

  Args:
    old: [K, D] p.
    offsets: [K, D] δ.
    others: [M, D] new prototypes, of length 1.
    classes: [B] the first of each pair.
    old_partners: [B] old classes, the second of each old pair; −1 for none.
    new_partners: [B] of `others`, the second of each new pair; −1 for none.
    threshold: t.

  Returns:
    [R] the old classes that have a gradient, ascending, and [R, D] that by
    their offsets.
  """
  rows = np.unique(np.append(classes, old_partners[old_partners >= 0]))
  moved = old[rows] + offsets[rows]
  units = unit_rows(moved)
  by_units = np.zeros_like(units)
  firsts = np.searchsorted(rows, classes)
  for partners, targets in (
    (
      np.where(old_partners < 0, -1, np.searchsorted(rows, old_partners)),
      units,
    ),
    (new_partners, others),
  ):
    paired = partners >= 0
    one, two = firsts[paired], partners[paired]
    close = (units[one] * targets[two]).sum(axis=1) > threshold
    one, two = one[close], two[close]
    share = 1 / max(paired.sum(), 1)
    np.add.at(by_units, one, share * targets[two])
    if targets is units:
      np.add.at(by_units, two, share * units[one])
  # Through the division by the length only what is tangential is left.
  lengths = np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
  radial = (by_units * units).sum(axis=1, keepdims=True) * units
  close = by_units.any(axis=1)
  return rows[close], ((by_units - radial) / lengths)[close]
