"""The training images of an upgrade, as its old and its new run see them."""

import dataclasses
from functools import partial
import pathlib

import ml_collections
import numpy as np

from advbct_jax.data.image_checks import check_images
from advbct_jax.data.images import ImageSet, digest_ids
from advbct_jax.data.pipeline import Loader, make_loader
from advbct_jax.data.splits import (
  Split,
  split_training_set,
  unlabelled_split,
)
from advbct_jax.errors import InputError
from advbct_jax.models.backbones import takes_features
from advbct_jax.processes import from_first, say
from advbct_jax.training.checked_images import load_checked_images
from advbct_jax.training.head_features import find_run_features
from advbct_jax.training.run import TrainingSet


@dataclasses.dataclass(frozen=True)
class TrainingImages:
  """The training images of an upgrade, shared by its old and new run."""

  image_set: ImageSet
  split: Split
  load: Loader

  def training_set(self, part: str) -> TrainingSet:
    """What the old model (`old`) or the new one (`all`) is trained on."""
    split = self.split
    left_out = [
      self.image_set.ids[row] for row in np.flatnonzero(~split.usable).tolist()
    ]
    digest = digest_ids(left_out) if left_out else None
    if part == 'old':
      return TrainingSet(
        self.load,
        split.old_rows,
        split.old_labels,
        split.old_classes,
        split.places[: split.old_classes],  # old classes are numbered first
        digest,
      )
    if part == 'all':
      return TrainingSet(
        self.load,
        split.new_rows,
        split.labels,
        split.classes,
        split.places,
        digest,
      )
    raise InputError(f'config.data.part is {part!r}; wanted: all or old.')


def open_training_images(
  config: ml_collections.ConfigDict,
  check: bool,
  workdir: pathlib.Path = pathlib.Path(),
) -> TrainingImages:
  """Opens the training images of a config, and splits them.

  Args:
    config: of the experiment.
    check: whether every file is looked at first.
    workdir: where stored features that are too large for memory are laid out.

  Raises:
    InputError: if tables, split or images cannot be used, or a check found
      problems and the config says to stop.
  """
  data = config.data
  checked = load_checked_images(config)
  image_set = checked.image_set
  assert image_set.labels is not None
  labels = image_set.labels
  # Features of one class are what `advbct prepare vectors` makes of things
  # without labels; a tie image by image can be trained on them all the same.
  unlabelled = takes_features(config.model.architecture) and not labels.any()
  if unlabelled and data.split.new_fraction < 1:
    raise InputError(
      f'config.data.split.new_fraction is {data.split.new_fraction}, but the '
      f'{len(labels)} things of {image_set.name} have no labels, of which a '
      'share could be taken; wanted: 1.0, or labels.'
    )
  split = (
    unlabelled_split(checked.usable)
    if unlabelled
    else split_training_set(labels, **data.split, usable=checked.usable)
  )
  say(
    f'{image_set.name}: {len(split.new_rows)} images of {split.classes} '
    'classes; '
    f'the old model knows {len(split.old_rows)} of {split.old_classes} '
    f'({data.split.kind})'
  )
  if takes_features(config.model.architecture):
    features = find_run_features(workdir, config, image_set)
    load = features.loader(image_set, data.memory_mib)
    return TrainingImages(image_set, split, load)
  if check:
    from_first(partial(check_images, image_set))
  return TrainingImages(
    image_set,
    split,
    make_loader(image_set, data.image_size, data.memory_mib, data.resampling),
  )
