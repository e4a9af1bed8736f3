"""The steps of a chain of upgrades, from its config."""

from collections.abc import Sequence
import dataclasses
import pathlib

import ml_collections

from advbct_jax.errors import InputError
from advbct_jax.experiment import settle_vectors
from advbct_jax.methods import find_method
from advbct_jax.training.config_checks import (
  change_config,
  check_config,
  read_field,
)
from advbct_jax.training.old_side import check_old_encoder, require_width
from advbct_jax.training.run import Run, has_same_classes
from advbct_jax.training.run_stores import encoder_width
from advbct_jax.training.training_images import open_training_images
from advbct_jax.training.upgrade import plan_run

# What all encoders of a chain share, for one matrix judges them all.
_SHARED = (
  'data.name',
  'data.root',
  'data.split.kind',
  'data.split.seed',
  'evaluation',
)


@dataclasses.dataclass(frozen=True)
class Step:
  """One encoder of a chain.

  Attributes:
    number: from 1.
    path: its workdir, or where what is known of a given one lies.
    config: of its training; None for a given encoder.
  """

  number: int
  path: pathlib.Path
  config: ml_collections.ConfigDict | None


def make_steps(
  config: ml_collections.ConfigDict, root: pathlib.Path
) -> list[Step]:
  """Lays out a chain.

  Where `base.old.path` names an encoder, that is step 1. Otherwise the first of
  `steps` is trained without any tie, as `base.old` says. Every other one is
  trained by `base` and its changes, and tied to the step before it.

  Args:
    config: with `base` and `steps`; see configs/chain_glyphs.py.
    root: the chain's folder; step N is trained in its folder N.

  Returns:
    The steps, in their order.

  Raises:
    InputError: if they are fewer than two, or a change is none that `base`
      can take.
  """
  if not isinstance(config.steps, list | tuple):
    raise InputError(
      f'config.steps is {config.steps!r}; wanted: a tuple of the changes that '
      'each step makes to config.base.'
    )
  # Locked, so that no step adds a field.
  base = settle_vectors(config.base, root).lock()
  steps: list[Step] = []
  if base.old.path:
    steps.append(Step(1, pathlib.Path(base.old.path), None))
  if len(steps) + len(config.steps) < 2:
    raise InputError(
      f'config.steps has {len(config.steps)} steps, and config.base.old.path '
      f'is {base.old.path!r}; wanted: two encoders at least, that given one '
      'counted.'
    )
  for changes in config.steps:
    number = len(steps) + 1
    try:
      training = _step_config(base, changes, steps)
      folder = root / str(number)
      # A step may name features of its own.
      training = settle_vectors(training, folder)
    except InputError as error:
      raise InputError(f'step {number}: {error}') from error
    steps.append(Step(number, folder, training))
  return steps


def check_steps(steps: Sequence[Step]) -> list[Run]:
  """Refuses what cannot work, before anything is trained.

  Args:
    steps: of a chain.

  Returns:
    The runs of those that are trained, their old sides all zero.

  Raises:
    InputError: naming the step.
  """
  runs: list[Run] = []
  for before, step in zip([None, *steps], steps, strict=False):
    if step.config is None:
      continue
    theirs = before.config if before else None
    try:
      check_config(step.config)
      # Files are looked at once, for all steps have the same.
      images = open_training_images(
        step.config, check=not runs, workdir=step.path
      )
      # One that isn't tied has to compare with the others all the same.
      if theirs is not None:
        check_old_encoder(step.config, theirs)
      elif before:
        width = encoder_width(before.path, step.config.data.name)
        require_width(step.config, width)
      runs.append(plan_run(step.config, images, theirs))
    except InputError as error:
      raise InputError(f'step {step.number}: {error}') from error
  return runs


def _step_config(
  base: ml_collections.ConfigDict, changes: object, before: Sequence[Step]
) -> ml_collections.ConfigDict:
  """The config of the step that comes after some others."""
  training = base.copy_and_resolve_references()
  if not before:
    training.method = 'independent'
    first = base.old.copy_and_resolve_references()
    for name in ('model', 'epochs', 'optimizer'):
      training[name] = first[name]
  change_config(training, changes)
  for name in _SHARED:
    if read_field(training, name) != read_field(base, name):
      raise InputError(
        f'it changes {name}, which all steps share; wanted: that in '
        'config.base alone.'
      )
  split = training.data.split
  if not before:
    if find_method(training.method).needs_old_model:
      raise InputError(
        f"its method is {training.method!r}, but it is the chain's first, and "
        "there is nothing to tie it to; wanted: 'independent', or a "
        'config.base.old.path.'
      )
    split.old_fraction = split.new_fraction
    return training
  previous = before[-1]
  training.old.path = str(previous.path)
  if previous.config is None:
    return training
  known = previous.config.data.split.new_fraction
  if known > split.new_fraction:
    raise InputError(
      f'its data.split.new_fraction is {split.new_fraction}, less than the '
      f'{known} of the step before it; wanted: at least as much.'
    )
  split.old_fraction = known
  # One classifier to start from would tie two encoders without any loss.
  if has_same_classes(split) and training.seed == base.seed:
    training.seed += len(before)
  return training
