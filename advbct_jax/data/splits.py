"""Which parts of a training set the old and the new model know."""

from collections.abc import Sequence
import dataclasses
import pathlib

import numpy as np

from advbct_jax.errors import InputError

SPLITS = ('extended_class', 'extended_data')


@dataclasses.dataclass(frozen=True)
class Split:
  """A training set as the old and the new model see it.

  Attributes:
    labels: [N] int32 the dense new class of each image that the new model is
      trained on, −1 for the others.
    landmarks: [C] the published landmark id of each new class.
    old_labels: [N] int32 the old model's class of each image that it was
      trained on, −1 for the others.
    old_class: [C] int32 the old model's number of each new class, −1 for a
      class that it never saw.
    places: [C] int32 the place of each new class among all landmarks of the
      data set, sorted. Unlike its number, it is the same in all splits, and in
      a data set that has further landmarks of higher ids.
    usable: [N] whether an image may be used at all.
  """

  labels: np.ndarray
  landmarks: np.ndarray
  old_labels: np.ndarray
  old_class: np.ndarray
  places: np.ndarray
  usable: np.ndarray

  @property
  def classes(self) -> int:
    """The number C of new classes."""
    return len(self.landmarks)

  @property
  def old_classes(self) -> int:
    """The number C_old of old classes."""
    return int(self.old_labels.max()) + 1

  @property
  def new_rows(self) -> np.ndarray:
    """Positions of the images that the new model is trained on."""
    return np.flatnonzero(self.labels >= 0)

  @property
  def old_rows(self) -> np.ndarray:
    """Positions of the images that the old model was trained on."""
    return np.flatnonzero(self.old_labels >= 0)


def split_training_set(
  landmarks: np.ndarray,
  kind: str,
  old_fraction: float,
  seed: int,
  new_fraction: float = 1.0,
  usable: np.ndarray | None = None,
) -> Split:
  """Chooses what the old and the new model know.

  `extended_class`: a model knows a share of the classes, drawn at random, and
  all of their images. `extended_data`: it knows all classes, and of each
  ⌊share·n⌋ of its n images, drawn at random, at least one. By one seed, what a
  smaller share has is part of what a larger one has, under the same numbers.

  Args:
    landmarks: [N] the landmark id of each image.
    kind: `extended_class` or `extended_data`.
    old_fraction: the old model's share of classes or images, more than 0.
    seed: of the draw.
    new_fraction: the new model's share, from the old one's to 1.
    usable: [N] which images may be used; None for all. The others are of no
      class, and change neither which classes are old nor their numbers.

  Returns:
    The split, with the old classes numbered first.

  Raises:
    InputError: if the kind is unknown, a class has not two images, nothing
      would be old, or the old model would know more than the new one.

  References:
    Pan et al., CVPR 2023.
  """
  if usable is None:
    usable = np.ones(len(landmarks), bool)
  ids, positions = np.unique(landmarks, return_inverse=True)
  counts = np.bincount(positions[usable], minlength=len(ids))
  _require_usable(ids, counts, kind, old_fraction, new_fraction)
  random = np.random.default_rng(seed)
  order = random.permutation(len(ids))
  number = np.empty(len(ids), np.int32)
  number[order] = np.arange(len(ids), dtype=np.int32)
  labels = np.where(usable, number[positions], -1)
  if kind == 'extended_class':
    old_classes, classes = (
      int(share * len(ids)) for share in (old_fraction, new_fraction)
    )
    old_labels = np.where(labels < old_classes, labels, -1)
    new_labels = np.where(labels < classes, labels, -1)
  else:
    old_classes = classes = len(ids)
    # Rank of every image within its class, in a random order: sorted by class
    # (`lexsort` goes by its last key first), and at random within.
    shuffled = np.lexsort((random.random(len(labels)), labels))
    shuffled = shuffled[np.count_nonzero(~usable) :]  # −1 comes first
    rank = np.zeros(len(labels), int)
    starts = np.cumsum(counts[order]) - counts[order]
    rank[shuffled] = np.arange(len(shuffled)) - starts[labels[shuffled]]
    old_labels, new_labels = (
      np.where(rank < quota[labels], labels, -1)
      for quota in (
        np.maximum((share * counts[order]).astype(int), 1)
        for share in (old_fraction, new_fraction)
      )
    )
  if old_classes == 0:
    raise InputError(
      f'the old part of the split is empty: {old_fraction} of {len(ids)} '
      'classes is less than one. Raise config.data.split.old_fraction.'
    )
  numbers = np.arange(classes, dtype=np.int32)
  return Split(
    labels=new_labels.astype(np.int32),
    landmarks=ids[order[:classes]],
    old_labels=old_labels.astype(np.int32),
    old_class=np.where(numbers < old_classes, numbers, -1).astype(np.int32),
    places=order[:classes].astype(np.int32),
    usable=usable,
  )


def unlabelled_split(usable: np.ndarray) -> Split:
  """A training set of which nobody says what is alike: all of one class.

  The old model is taken to know every thing, and its one class says nothing.

  Args:
    usable: [N] which things may be used.
  """
  labels, one = np.where(usable, 0, -1).astype(np.int32), np.zeros(1, np.int32)
  return Split(labels, one, labels, one, one, usable)


def split_by_old_labels(
  split: Split, names: Sequence[str], source: pathlib.Path
) -> Split:
  """Takes what the old model knows from its own labels instead.

  Args:
    split: of the training set; its new classes stay.
    names: [N] the old model's class of each image, '' for an image of none.
    source: where they are from, for errors.

  Returns:
    The split with other old classes. Several new classes may be of one old
    class, but not the other way round.

  Raises:
    InputError: if no image has an old class, or the images of a new class have
      different ones.
  """
  known = np.flatnonzero((np.array(names) != '') & split.usable)
  trained = np.isin(known, split.new_rows)
  if not known.size:
    raise InputError(
      f'{source}: none of the {len(names)} images has a label. Wanted: the old '
      "model's class of each image that it knew, or no labels at all, where "
      'config.data.split then says what it knew.'
    )
  old_names, number = np.unique(np.array(names)[known], return_inverse=True)
  old_labels = np.full(len(names), -1, np.int32)
  old_labels[known] = number
  old_class = np.full(split.classes, -1, np.int32)
  known, number = known[trained], number[trained]
  old_class[split.labels[known]] = number
  torn = known[old_class[split.labels[known]] != number]
  if torn.size:
    row = torn[0]
    new = split.labels[row]
    raise InputError(
      f'{source}: the images of landmark {split.landmarks[new]} have different '
      f'labels, {names[row]!r} and {old_names[old_class[new]]!r} among them. '
      'Wanted: one old class for each landmark; mend the labels, or leave them '
      'out.'
    )
  return dataclasses.replace(split, old_labels=old_labels, old_class=old_class)


def _require_usable(
  ids: np.ndarray,
  counts: np.ndarray,
  kind: str,
  old_fraction: float,
  new_fraction: float,
) -> None:
  if kind not in SPLITS:
    raise InputError(
      f'config.data.split.kind is {kind!r}; wanted: {" or ".join(SPLITS)}.'
    )
  if not 0 < old_fraction <= new_fraction <= 1:
    raise InputError(
      f'config.data.split.old_fraction is {old_fraction} and new_fraction '
      f'{new_fraction}; wanted: shares between 0 and 1 (0.3 and 1 in the '
      'paper), the old one at most the new one.'
    )
  if len(ids) < 2:
    raise InputError(
      f'the training set has {len(ids)} classes; at least 2 are wanted.'
    )
  if (lonely := ids[counts < 2]).size:
    raise InputError(
      f'{lonely.size} classes of the training set have a single image, the '
      f'first of them: {", ".join(map(str, lonely[:10]))}. A class needs at '
      'least 2, not counting what config.data.checked leaves out; add images '
      'or take these classes off train_clean.csv.'
    )
