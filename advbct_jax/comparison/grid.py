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
from advbct_jax.comparison.starts import FRESH, read_start
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
    encoder: the name of the job whose encoder is judged: its own if it trains,
      another's for a cell of `independent` or of an adapter, '' for given
      vectors.
    old: the name of the old encoder's job, '' where there is none.
    independent: the name of the independent encoder's job, '' where it takes
      no part in the training or isn't trained.
    adapter: fitted between the old encoder and the judged one, '' for none.
    direction: of the adapter, '' where there is none.
    policies: of refresh, that the cell is judged by as well.
    is_adapted: whether adapters are fitted to what it trains.
  """

  name: str
  cell: Cell | None
  seed: int
  config: ml_collections.ConfigDict
  encoder: str
  old: str = ''
  independent: str = ''
  adapter: str = ''
  direction: str = ''
  policies: tuple[str, ...] = ()
  is_adapted: bool = False

  @property
  def trains(self) -> bool:
    """Whether the encoder that it judges is its own."""
    return self.encoder == self.name

  @property
  def needs(self) -> tuple[str, ...]:
    """The jobs that come first."""
    names = dict.fromkeys((self.old, self.independent, self.encoder))
    return tuple(name for name in names if name not in ('', self.name))


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
  cells = _cells(config)
  for seed, cell in itertools.product(config.seeds, cells):
    # Most cells share encoders.
    for job in _jobs_of_cell(config, cell, cells, seed, jobs):
      jobs.setdefault(job.name, job)
  adapted = {job.encoder for job in jobs.values() if job.adapter}
  return [
    dataclasses.replace(job, is_adapted=job.name in adapted)
    for job in jobs.values()
  ]


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
  wanted: set[str] = set()
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
    wanted.update(job.name for job in (named if part else jobs))
  # Each comes after what it needs.
  for job in reversed(jobs):
    if job.name in wanted:
      wanted.update(job.needs)
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
  if not read_start(cell[2]).adapter:
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
  training = read_start(start).training
  for kind, name, known in (
    ('upgrades', upgrade, config.upgrades),
    ('methods', method, config.methods),
    # Those that stand alone are adapters on fresh weights.
    ('starts', training, dict.fromkeys([FRESH, *config.starts, *ADAPTERS])),
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
  alone = '+' not in start and bool(read_start(start).adapter)
  if start != FRESH and alone != independent:
    raise InputError(
      f'config.blocks: {upgrade}/{method}/{start} makes no sense; wanted: for '
      'the method independent an adapter, or the start fresh; for any other a '
      'start, or START+ADAPTER.'
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
  cells: Mapping[Cell, tuple[str, ...]],
  seed: int,
  before: dict[str, Job],
) -> Iterator[Job]:
  """The trainings that a cell needs, and the cell."""
  upgrade, method, start = cell
  place = read_start(start)
  changes = [config.upgrades[upgrade], config.methods[method]]
  if place.training in config.starts:
    changes.append(config.starts[place.training])
  training = _changed(config, seed, *changes)
  is_independent = training.method == 'independent'
  if place.adapter and not is_independent:
    plain = (upgrade, method, place.training)
    *needed, trained = _jobs_of_cell(config, plain, cells, seed, before)
    yield from needed
    yield trained
    yield dataclasses.replace(
      trained,
      name=f'{"/".join(cell)}/{seed}',
      cell=cell,
      adapter=place.adapter,
      direction=place.direction,
      policies=cells[cell],
    )
    return
  # One old encoder for all methods and starts, whatever else they change.
  upgraded = _changed(config, seed, config.upgrades[upgrade])
  old = independent = ''
  if not training.old.path:
    shared = _shared('old', upgrade, seed, old_config(upgraded), before)
    yield shared
    old = shared.name
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
  name = f'{"/".join(cell)}/{seed}'
  yield Job(
    name,
    cell,
    seed,
    training,
    encoder=independent if is_independent else name,
    old=old,
    independent='' if is_independent else independent,
    adapter=place.adapter,
    direction=place.direction,
    # A cell that an adapter stands on need not be in any block.
    policies=cells.get(cell, ()),
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
  name = f'{role}/{upgrade}/{seed}'
  return Job(name, None, seed, training, encoder=name)
