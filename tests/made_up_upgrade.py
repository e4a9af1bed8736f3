"""An upgrade between two made-up encoders, of which the new one is better."""

import pathlib

import numpy as np

from advbct_jax.data.ground_truth import Gldv2GroundTruth, RetrievalSet
from advbct_jax.data.images import ImageSet, NoPictures
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.refresh.known_pairs import know_training_pairs
from advbct_jax.refresh.policy import Queries
from advbct_jax.refresh.upgrade import Upgrade

_SIGNAL = 32


def make_vectors(
  count: int = 900,
  classes: int = 30,
  widths: tuple[int, int] = (28, 32),
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Old and new unit vectors of things of some classes.

  Returns:
    [N, D_old], [N, D] and [N] classes.
  """
  random = np.random.default_rng(seed)
  labels = np.arange(count) % classes
  centres = random.normal(size=(classes, _SIGNAL))
  signal = centres[labels] + 1.2 * random.normal(size=(count, _SIGNAL))
  spaces = np.random.default_rng(99)
  vectors = []
  for width, noise in zip(widths, (1.0, 0.2), strict=True):
    seen = signal @ spaces.normal(size=(_SIGNAL, width)) / np.sqrt(_SIGNAL)
    # What every thing has in common, as features pooled after a ReLU have.
    offset = 2 * np.abs(spaces.normal(size=width))
    seen += noise * random.normal(size=seen.shape) + offset
    vectors.append(unit_rows(seen.astype(np.float32)))
  return vectors[0], vectors[1], labels


def make_upgrade(
  widths: tuple[int, int] = (28, 32), training: int = 300
) -> Upgrade:
  """60 queries in a gallery of 540 things, of classes never trained on."""
  old, new, labels = make_vectors(600, 20, widths, seed=1)
  known = make_vectors(max(training, 1), 15, widths, seed=2)
  asking = np.arange(60)
  gallery = np.arange(60, 600)
  truth = Gldv2GroundTruth(
    [np.flatnonzero(labels[gallery] == labels[one]) for one in asking],
    ['Private'] * len(asking),
  )
  return Upgrade(
    RetrievalSet('made-up', _things('q', 60), _things('g', 540), truth),
    Queries(new[asking], old[asking]),
    old[gallery],
    new[gallery],
    know_training_pairs(
      [(known[0], known[1])] if training else [], widths, len(gallery)
    ),
  )


def _things(name: str, count: int) -> ImageSet:
  ids = [f'{name}{number}' for number in range(count)]
  return ImageSet(name=name, ids=ids, images=NoPictures(pathlib.Path(), count))
