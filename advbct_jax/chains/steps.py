"""The steps of a chain of upgrades, from its config."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import pathlib

import ml_collections

from advbct_jax.errors import InputError
from advbct_jax.experiment import settle_vectors
from advbct_jax.methods import find_method
from advbct_jax.training.checkpoints import is_workdir, latest_step
from advbct_jax.training.config_checks import (
  change_config,
  check_config,
  read_field,
)
from advbct_jax.training.old_side import check_old_encoder, require_width
from advbct_jax.training.run import Run, has_same_classes
from advbct_jax.training.run_stores import encoder_width
from advbct_jax.training.start import OLD
from advbct_jax.training.training_images import open_training_images
from advbct_jax.training.upgrade import plan_run
from advbct_jax.training.workdir import require_finished, require_same_run
from advbct_jax.weights.hub import names_weights

# What all encoders of a chain share, for one matrix judges them all.
_SHARED = (
  'data.name',
  'data.root',
  'data.split.kind',
  'data.split.seed',
  'evaluation',
)

# Values of `tied_to`.
PREVIOUS, ALL = 'previous', 'all'
# Where in the folder of a step the mean of those before it lies.
MEAN = 'before'


@dataclasses.dataclass(frozen=True)
class Step:
  """One encoder of a chain.

  Attributes:
    number: from 1.
    path: its workdir, or where what is known of a given one lies.
    config: of its training; None for a given encoder.
    mean_of: the steps to whose mean it is tied; empty where it is tied to the
      step before it, or to nothing.
  """

  number: int
  path: pathlib.Path
  config: ml_collections.ConfigDict | None
  mean_of: tuple['Step', ...] = ()

  @property
  def tie(self) -> str:
    """What it is tied to, in words; empty for nothing."""
    if (
      self.config is None or not find_method(self.config.method).needs_old_model
    ):
      return ''
    if self.mean_of:
      return f'the mean of steps 1 to {self.mean_of[-1].number}'
    return f'step {self.number - 1}'


@contextlib.contextmanager
def naming(number: int) -> Iterator[None]:
  """Says of which step it is that something cannot be used."""
  try:
    yield
  except InputError as error:
    raise InputError(f'step {number}: {error}') from error


def make_steps(
  config: ml_collections.ConfigDict, root: pathlib.Path
) -> list[Step]:
  """Lays out a chain.

  Where `base.old.path` names an encoder, that is step 1. Otherwise the first of
  `steps` is trained without any tie, as `base.old` says. Every other one is
  trained by `base` and its changes, and tied to the step before it, or, where
  `tied_to` is `all`, to the mean of all steps before it.

  Args:
    config: with `base`, `steps` and maybe `tied_to`; see
      configs/chain_glyphs.py.
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
  tied_to = config.get('tied_to', PREVIOUS)
  if tied_to not in (PREVIOUS, ALL):
    raise InputError(
      f'config.tied_to is {tied_to!r}; wanted: {PREVIOUS!r}, the step before '
      f'each step, or {ALL!r}, the mean of all steps before it.'
    )
  given = config.base.old.path
  if given and not names_weights(given) and not pathlib.Path(given).exists():
    raise InputError(
      f'step 1: config.base.old.path is {given!r}, where there is nothing; '
      'wanted: the encoder that the chain begins with, or nothing there, to '
      'have the first of config.steps trained without any tie.'
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
    folder = root / str(number)
    mean_of: tuple[Step, ...] = ()
    with naming(number):
      training = _step_config(base, changes, steps)
      tied = find_method(training.method).needs_old_model
      # The mean of one is itself, and an encoder tells more than its vectors.
      if tied and tied_to == ALL and len(steps) > 1:
        mean_of = tuple(steps)
        training.old.path = str(folder / MEAN)
        if training.model.init_weights == OLD:
          training.old.weights = str(steps[-1].path)
      # A step may name features of its own.
      training = settle_vectors(training, folder)
    steps.append(Step(number, folder, training, mean_of))
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
  _require_links(steps)
  runs: list[Run] = []
  for before, step in zip([None, *steps], steps, strict=False):
    if step.config is None:
      continue
    with naming(step.number):
      check_config(step.config)
      # Files are looked at once, for all steps have the same.
      images = open_training_images(
        step.config, check=not runs, workdir=step.path
      )
      theirs = before.config if before else None
      # One that isn't tied has to compare with the others all the same.
      if theirs is not None:
        check_old_encoder(step.config, theirs)
      elif before:
        width = encoder_width(before.path, step.config.data.name)
        require_width(step.config, width)
      runs.append(plan_run(step.config, images, theirs))
  return runs


def _require_links(steps: Sequence[Step]) -> None:
  """Refuses a chain of which a step that others were tied to is lost.

  Trained anew, it might come out as another encoder.
  """
  first, last = steps[0], steps[-1].config
  assert last is not None
  if first.config is None:
    with naming(first.number):
      encoder_width(first.path, last.data.name)  # opens it
      if is_workdir(first.path):
        require_finished(first.path)
  begun = [
    step
    for step in steps
    if step.config is not None and latest_step(step.path) is not None
  ]
  for step in begun:
    assert step.config is not None
    with naming(step.number):
      require_same_run(step.path, step.config)
  for step in steps[: begun[-1].number - 1] if begun else []:
    if step.config is None:
      continue
    try:
      require_finished(step.path)
    except InputError as error:
      raise InputError(
        f'step {step.number}: {error} Step {begun[-1].number} was begun after '
        f'it. Put {step.path} back as it was, or move the folders of the '
        'steps after it away, to have them trained anew.'
      ) from error


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
  training.old.weights = ''  # those beside the vectors of a given encoder
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
