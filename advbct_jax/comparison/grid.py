"""The cells of a comparison, and the trainings that they share."""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools

import ml_collections

from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.errors import InputError
from advbct_jax.methods import METHODS
from advbct_jax.training.old_side import old_config

# The folders of encoders that cells share.
_SHARED = ('old', 'independent')


@dataclasses.dataclass(frozen=True)
class Job:
  """One piece of work: a training that cells share, or a cell.

  Attributes:
    name: its folder below the comparison's, such as `old/extended_class/0` or
      `extended_class/advbct/fresh/0`.
    cell: (upgrade, method, start) of a cell; None for a shared training.
    seed: of its training.
    config: of the training, and of how to judge.
    trains: whether it trains; a cell of `independent` judges a shared encoder.
    old: the name of the old encoder's job, '' where there is none.
    independent: the name of the independent encoder's job, '' where it takes
      no part.
    adapter: fitted between the two, '' for none.
  """

  name: str
  cell: tuple[str, str, str] | None
  seed: int
  config: ml_collections.ConfigDict
  trains: bool = True
  old: str = ''
  independent: str = ''
  adapter: str = ''

  @property
  def needs(self) -> tuple[str, ...]:
    """The jobs that come first."""
    return tuple(name for name in (self.old, self.independent) if name)


def stores_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """The stores that a training's method reads besides the old encoder's."""
  return METHODS[config.method].stores


def make_jobs(config: ml_collections.ConfigDict) -> list[Job]:
  """Lays out a comparison.

  Old and independent encoders whose trainings are the same are trained once:
  an independent encoder doesn't know which part of the data was old.

  Args:
    config: with `base`, `upgrades`, `methods`, `starts`, `blocks` and `seeds`;
      see configs/comparison.py.

  Returns:
    The jobs, each after those that it needs.

  Raises:
    InputError: if a block names something that isn't there, or a change is
      none that `base` or its encoders can take.
  """
  jobs: dict[str, Job] = {}
  for seed, (upgrade, method, start) in itertools.product(
    config.seeds, _cells(config)
  ):
    # Blocks may overlap, and most cells share encoders.
    for job in _jobs_of_cell(config, upgrade, method, start, seed, jobs):
      jobs.setdefault(job.name, job)
  return list(jobs.values())


def select(jobs: Sequence[Job], only: Sequence[str]) -> list[Job]:
  """The cells of some names, and what they need.

  Args:
    jobs: of the whole comparison.
    only: parts of names, such as `extended_class`, `advbct` or
      `advbct/fresh`; a cell is taken if one of them is in its name. Empty for
      all cells.

  Raises:
    InputError: if one of them fits no cell.
  """
  by_name = {job.name: job for job in jobs}
  wanted: dict[str, Job] = {}
  for part in only or ['']:
    # Whole parts of a name alone: bct is not to take advbct with it.
    named = [
      job for job in jobs if job.cell and f'/{part}/' in f'//{job.name}/'
    ]
    if part and not named:
      cells = ', '.join([job.name for job in jobs if job.cell][:1])
      raise InputError(
        f'--only={part}: no cell has that in its name; wanted: parts of '
        f'UPGRADE/METHOD/START/SEED, such as {cells or "those of a block"}.'
      )
    for job in named if part else jobs:
      wanted |= {need: by_name[need] for need in job.needs}
      wanted[job.name] = job
  return [job for job in jobs if job.name in wanted]


def find_job(jobs: Sequence[Job], name: str) -> Job:
  """Looks a job up.

  Args:
    jobs: of the whole comparison.
    name: of one of them.

  Raises:
    InputError: if there is no such job.
  """
  for job in jobs:
    if job.name == name:
      return job
  raise InputError(
    f'--job={name}: the comparison has no such job; wanted: one of those that '
    '--dry_run lists, with the same --config and --seeds.'
  )


def _cells(
  config: ml_collections.ConfigDict,
) -> Iterator[tuple[str, str, str]]:
  for block in config.blocks:
    _require_lists(block)
    for cell in itertools.product(
      block['upgrades'], block['methods'], block['starts']
    ):
      _require_known(config, *cell)
      _require_sense(config, *cell)
      yield cell


def _require_lists(block: ml_collections.ConfigDict) -> None:
  for name in ('upgrades', 'methods', 'starts'):
    if not isinstance(block.get(name), list | tuple):
      raise InputError(
        f'config.blocks: {name} of a block is {block.get(name)!r}; wanted: a '
        'list or tuple of names.'
      )


def _require_known(
  config: ml_collections.ConfigDict, upgrade: str, method: str, start: str
) -> None:
  for kind, name, known in (
    ('upgrades', upgrade, config.upgrades),
    ('methods', method, config.methods),
    ('starts', start, [*config.starts, *ADAPTERS]),
  ):
    if name not in known:
      raise InputError(
        f'config.blocks: {name!r} is not among the {kind}; wanted: one of '
        f'{", ".join(known)}.'
      )


def _require_sense(
  config: ml_collections.ConfigDict, upgrade: str, method: str, start: str
) -> None:
  if upgrade in _SHARED:
    raise InputError(
      f'config.upgrades.{upgrade}: {" and ".join(_SHARED)} are the folders of '
      'the encoders that cells share; wanted: another name for the upgrade.'
    )
  independent = _method_of(config, method) == 'independent'
  if independent != (method == 'independent'):
    raise InputError(
      f'config.methods.{method}.method is {config.methods[method].method!r}; '
      'wanted: the name independent for the method independent and no other, '
      'for the scores and the plots look for it by that name.'
    )
  if independent != (start in ADAPTERS) and start != 'fresh':
    raise InputError(
      f'config.blocks: {upgrade}/{method}/{start} makes no sense; wanted: an '
      'adapter for the method independent alone, and of the starts only fresh '
      'for it.'
    )


def _method_of(config: ml_collections.ConfigDict, name: str) -> str:
  method = config.methods[name].get('method')
  if method not in METHODS:
    raise InputError(
      f'config.methods.{name}.method is {method!r}; wanted: one of '
      f'{", ".join(METHODS)}.'
    )
  return method


def _jobs_of_cell(
  config: ml_collections.ConfigDict,
  upgrade: str,
  method: str,
  start: str,
  seed: int,
  before: dict[str, Job],
) -> Iterator[Job]:
  """The trainings that a cell needs, and the cell."""
  changes = [config.upgrades[upgrade], config.methods[method]]
  if start in config.starts:
    changes.append(config.starts[start])
  training = _changed(config, seed, *changes)
  # One old encoder for all methods and starts, whatever else they change.
  upgraded = _changed(config, seed, config.upgrades[upgrade])
  old = _shared('old', upgrade, seed, old_config(upgraded), before)
  yield old
  name = f'{upgrade}/{method}/{start}/{seed}'
  cell = (upgrade, method, start)
  is_independent = training.method == 'independent'
  if not (
    is_independent
    or training.model.init_weights == 'aligned'
    or 'independent' in stores_of(training)
  ):
    yield Job(name, cell, seed, training, old=old.name)
    return
  untied = upgraded
  untied.method = 'independent'
  if is_independent and training != untied:
    raise InputError(
      f'{name}: config.methods.{method} or config.starts.{start} changes how '
      'the independent encoder is trained; wanted: no more than the method, '
      'for one such encoder serves all cells. Change config.base or '
      f'config.upgrades.{upgrade}.'
    )
  # What such a training doesn't look at must not tell two of them apart; the
  # split's seed, though, numbers its classes.
  untied.data.split.kind = config.base.data.split.kind
  untied.data.split.old_fraction = config.base.data.split.old_fraction
  untied.old = config.base.old
  independent = _shared('independent', upgrade, seed, untied, before)
  yield independent
  yield Job(
    name,
    cell,
    seed,
    independent.config if is_independent else training,
    trains=not is_independent,
    old=old.name,
    independent=independent.name,
    adapter=start if start in ADAPTERS else '',
  )


def _changed(
  config: ml_collections.ConfigDict, seed: int, *changes: object
) -> ml_collections.ConfigDict:
  training = config.base.copy_and_resolve_references()
  training.seed = seed
  for change in changes:
    try:
      training.update(change)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise InputError(
        f'a change that the comparison makes to config.base fails: {error}. '
        'Wanted: fields of config.base, with values of their types.'
      ) from error
  return training


def _shared(
  role: str,
  upgrade: str,
  seed: int,
  training: ml_collections.ConfigDict,
  before: dict[str, Job],
) -> Job:
  """The job of a training, that of another upgrade if it is the same."""
  # By what is trained, not by name: upgrades may differ in the old side alone.
  for job in before.values():
    if job.name.startswith(f'{role}/') and job.config == training:
      return job
  return Job(f'{role}/{upgrade}/{seed}', None, seed, training)
