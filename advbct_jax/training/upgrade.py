"""An upgrade from its config: data, old side, new encoder."""

import dataclasses
import pathlib

import ml_collections
import numpy as np

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.locks import hold
from advbct_jax.methods import find_method
from advbct_jax.methods.method import OldModel, OldSide
from advbct_jax.training.aligned_start import (
  check_independent,
  prepare_aligned_start,
)
from advbct_jax.training.checkpoints import latest_step
from advbct_jax.training.head_start import check_head_start, head_start
from advbct_jax.training.loop import Judge, train
from advbct_jax.training.old_side import (
  check_old_encoder,
  check_old_side,
  check_other_stores,
  old_config,
  prepare_old_side,
)
from advbct_jax.training.run import Run, compatible_dimension
from advbct_jax.training.run_stores import encoder_width
from advbct_jax.training.start import ALIGNED, HEAD_STARTS, OLD, old_start
from advbct_jax.training.summary import summarize
from advbct_jax.training.training_images import (
  TrainingImages,
  open_training_images,
)
from advbct_jax.training.workdir import claim_workdir, require_same_run


def train_upgrade(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  judge: Judge | None = None,
) -> None:
  """Trains the encoder of a config; what it needs and lacks is made first.

  Where the method wants an old encoder and none is named, that is trained
  first, in WORKDIR/old; then the old encoder embeds the training images.
  Whatever an earlier call has made is kept and used.

  Args:
    config: of the experiment.
    workdir: where everything goes.
    judge: says how good the new encoder is, while it is trained.

  Raises:
    InputError: if something that the config names cannot be used, or another
      process trains in the workdir.
  """
  with hold(workdir, 'trains'):
    _train_upgrade(config, workdir, judge)


def _train_upgrade(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  judge: Judge | None,
) -> None:
  claim_workdir(workdir, config)
  images = open_training_images(
    config, check=latest_step(workdir) is None, workdir=workdir
  )
  plan_run(config, images)
  old, start = None, None
  if find_method(config.method).needs_old_model:
    old, encoder = prepare_old_side(config, workdir, images)
    if config.model.init_weights == OLD:
      start = old_start(encoder)
    elif config.model.init_weights == ALIGNED:
      start = prepare_aligned_start(config, images, old.embeddings)
  run = Run(config, images.training_set(config.data.part), old, start)
  # A run that goes on has left its start behind.
  if config.model.init_weights in HEAD_STARTS and latest_step(workdir) is None:
    run = dataclasses.replace(run, start=head_start(run))
  train(run, workdir, judge)


def describe_upgrade(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> str:
  """Builds everything that a training needs, and says what it would do.

  Args:
    config: of the experiment.
    workdir: where everything would go.

  Returns:
    A text: data found, what would be made first, parameters, steps.

  Raises:
    InputError: as the training itself would.
  """
  require_same_run(workdir, config)
  images = open_training_images(config, check=True, workdir=workdir)
  run = plan_run(config, images)
  text = []
  if find_method(config.method).needs_old_model:
    if config.old.path:
      text.append(f'old encoder: {config.old.path}')
    else:
      text.append(
        f'old encoder: none is named, so {workdir / "old"} is trained first\n'
      )
      old_run = Run(old_config(config), images.training_set('old'), None)
      old_run.check()
      text.append(summarize(old_run, images.image_set.name))
      text.append('\nthen the new encoder\n')
  return '\n'.join([*text, summarize(run, images.image_set.name)])


def plan_run(
  config: ml_collections.ConfigDict,
  images: TrainingImages,
  theirs: ml_collections.ConfigDict | None = None,
) -> Run:
  """The run of a config with an old side of the right shapes, all zero.

  Args:
    config: of the experiment.
    images: of the experiment.
    theirs: the config that will train the old encoder, where `config.old.path`
      names one that is not there yet.

  Raises:
    InputError: if anything that the config names cannot be used.
  """
  old = None
  if find_method(config.method).needs_old_model:
    if theirs is None:
      check_old_side(config, images)
    else:
      check_old_encoder(config, theirs)
    check_other_stores(config)
    if config.model.init_weights == ALIGNED:
      check_independent(config, images)
    dimension = compatible_dimension(config.model)
    split = images.split
    statistics = class_statistics(
      np.zeros((0, dimension), np.float32),
      np.zeros(0, np.int32),
      split.old_classes,
    )

    def zeros(width: int) -> np.ndarray:
      # One zero, seen as all of them: GLDv2's would take 1.5 GiB.
      return np.broadcast_to(np.float32(0), (len(split.labels), width))

    old = OldSide(
      zeros(dimension),
      split.labels,
      split.old_labels,
      OldModel(statistics, split.old_class),
      {
        name: zeros(encoder_width(config.stores[name], config.data.name))
        for name in find_method(config.method).stores
      },
    )
  run = Run(config, images.training_set(config.data.part), old)
  run.check()
  if config.model.init_weights in HEAD_STARTS:
    check_head_start(run)
  return run
