"""The cells of a comparison, and the trainings that they share.

An encoder whose vectors the config names isn't trained: the old one of
`old.path`, and with `data.features`, which heads are trained on, the
independent one, which is what the features are without any head.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
from typing import Any

import ml_collections

from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.errors import InputError
from advbct_jax.methods import METHODS
from advbct_jax.refresh.policies import find_policies
from advbct_jax.training.config_checks import change_config
from advbct_jax.training.old_side import old_config

# The folders of encoders that cells share.
_SHARED = ('old', 'independent')
# Among the policies of a block: the adapter of the cell.
ADAPTER_POLICY = 'adapter'

# Upgrade, method and start.
Cell = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Job:
  """One piece of work: a training that cells share, or a cell.

  Attributes:
    name: its folder below the comparison's, such as `old/extended_class/0` or
      `extended_class/advbct/fresh/0`.
    cell: None for a shared training.
    seed: of its training.
    config: of the training, and of how to judge.
    trains: whether it trains; a cell of `independent` judges a shared encoder.
    old: the name of the old encoder's job, '' where there is none.
    independent: the name of the independent encoder's job, '' where it takes
      no part or isn't trained.
    adapter: fitted between the two, '' for none.
    policies: of refresh, that the cell is judged by as well.
  """

  name: str
  cell: Cell | None
  seed: int
  config: ml_collections.ConfigDict
  trains: bool = True
  old: str = ''
  independent: str = ''
  adapter: str = ''
  policies: tuple[str, ...] = ()

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
  for seed, (cell, policies) in itertools.product(
    config.seeds, _cells(config).items()
  ):
    # Most cells share encoders.
    for job in _jobs_of_cell(config, cell, policies, seed, jobs):
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
) -> dict[Cell, tuple[str, ...]]:
  """The cells of all blocks, each with the policies of all that have it."""
  cells: dict[Cell, tuple[str, ...]] = {}
  for block in config.blocks:
    upgrades, methods, starts = (
      _names(block, name) for name in ('upgrades', 'methods', 'starts')
    )
    policies = _names(block, 'policies', ())
    for cell in itertools.product(upgrades, methods, starts):
      _require_known(config, *cell)
      _require_sense(config, *cell)
      _require_policies(cell, policies)
      # Blocks may overlap.
      merged = dict.fromkeys((*cells.get(cell, ()), *policies))
      cells[cell] = tuple(merged)
  return cells


def _names(
  block: Mapping[str, Any], field: str, default: tuple[str, ...] | None = None
) -> tuple[str, ...]:
  names = block.get(field, default)
  if not isinstance(names, list | tuple):
    raise InputError(
      f'config.blocks: {field} of a block is {names!r}; wanted: a list or '
      'tuple of names.'
    )
  return tuple(names)


def _require_policies(cell: Cell, policies: Sequence[str]) -> None:
  if cell[2] not in ADAPTERS:
    find_policies(policies)
  elif set(policies) - {ADAPTER_POLICY}:
    raise InputError(
      f'config.blocks: {"/".join(cell)} is to be judged by the policies '
      f'{", ".join(policies)}; wanted: {ADAPTER_POLICY!r} alone, for an '
      'adapter is the policy of its cell. Name others with the start fresh.'
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
  cell: Cell,
  policies: tuple[str, ...],
  seed: int,
  before: dict[str, Job],
) -> Iterator[Job]:
  """The trainings that a cell needs, and the cell."""
  upgrade, method, start = cell
  changes = [config.upgrades[upgrade], config.methods[method]]
  if start in config.starts:
    changes.append(config.starts[start])
  training = _changed(config, seed, *changes)
  # One old encoder for all methods and starts, whatever else they change.
  upgraded = _changed(config, seed, config.upgrades[upgrade])
  old = independent = ''
  if not training.old.path:
    shared = _shared('old', upgrade, seed, old_config(upgraded), before)
    yield shared
    old = shared.name
  is_independent = training.method == 'independent'
  takes_part = (
    is_independent
    or training.model.init_weights == 'aligned'
    or 'independent' in stores_of(training)
  )
  if takes_part and not training.data.features:
    untied = upgraded
    untied.method = 'independent'
    if is_independent and training != untied:
      raise InputError(
        f'{"/".join(cell)}: config.methods.{method} or config.starts.{start} '
        'changes how the independent encoder is trained; wanted: no more than '
        'the method, for one such encoder serves all cells. Change config.base '
        f'or config.upgrades.{upgrade}.'
      )
    # What such a training doesn't look at must not tell two of them apart; the
    # split's seed, though, numbers its classes.
    untied.data.split.kind = config.base.data.split.kind
    untied.data.split.old_fraction = config.base.data.split.old_fraction
    untied.old = config.base.old
    shared = _shared('independent', upgrade, seed, untied, before)
    yield shared
    independent = shared.name
  yield Job(
    f'{upgrade}/{method}/{start}/{seed}',
    cell,
    seed,
    training,
    trains=not is_independent,
    old=old,
    independent=independent,
    adapter=start if start in ADAPTERS else '',
    policies=policies,
  )


def _changed(
  config: ml_collections.ConfigDict, seed: int, *changes: object
) -> ml_collections.ConfigDict:
  training = config.base.copy_and_resolve_references()
  training.seed = seed
  for change in changes:
    change_config(training, change)
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
