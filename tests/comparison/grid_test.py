"""Which jobs a comparison consists of, and what they share."""

from functools import partial
from typing import ClassVar

import ml_collections
import pytest

from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.comparison.cell import check_jobs
from advbct_jax.comparison.grid import Job, find_job, make_jobs, select
from advbct_jax.errors import InputError
from advbct_jax.methods import METHODS
from advbct_jax.methods.method import Method
from advbct_jax.models.resnet import RESNETS, BasicBlock, ResNet
from configs import (
  base,
  comparison,
  comparison_advbct,
  comparison_heads,
  comparison_methods,
  comparison_photos,
  comparison_vectors,
)
from tests.made_up_run import make_run


def make_grid(**changes):
  """A grid of two upgrades that differ in the split alone."""
  config = ml_collections.ConfigDict(
    {
      'base': base.get_config(),
      'upgrades': {
        'classes': {},
        'images': {'data': {'split': {'kind': 'extended_data'}}},
      },
      'methods': {
        'independent': {'method': 'independent'},
        'advbct': {'method': 'advbct'},
        'l2': {'method': 'l2'},
      },
      'starts': {
        'fresh': {},
        'aligned': {'model': {'init_weights': 'aligned'}, 'epochs': 7},
      },
    }
  )
  config.blocks = (
    make_block(methods=('independent', 'advbct')),
    make_block(methods=('advbct',), starts=('aligned',)),
    make_block(methods=('independent',), starts=('procrustes',)),
  )
  config.seeds = (0,)
  config.update(changes)
  return config.lock()


def make_block(
  upgrades=('classes', 'images'),
  methods=('advbct',),
  starts=('fresh',),
  **policies,
):
  return {
    'upgrades': upgrades,
    'methods': methods,
    'starts': starts,
    **policies,
  }


def by_name(jobs):
  return {job.name: job for job in jobs}


def names(jobs):
  return [job.name for job in jobs]


def test_each_job_comes_once_and_after_what_it_needs():
  jobs = make_jobs(make_grid(seeds=(0, 3)))

  before = set()
  for job in jobs:
    assert before.issuperset(job.needs)
    assert job.name not in before
    before.add(job.name)
  assert len(jobs) == 2 * (2 + 1 + 8)


def test_upgrades_that_differ_in_the_split_share_the_independent_encoder():
  jobs = by_name(make_jobs(make_grid()))

  trainings = [name for name, job in jobs.items() if job.cell is None]
  assert trainings == ['old/classes/0', 'independent/classes/0', 'old/images/0']
  for upgrade in ('classes', 'images'):
    for cell in ('advbct/aligned', 'independent/fresh'):
      assert jobs[f'{upgrade}/{cell}/0'].needs == (
        f'old/{upgrade}/0',
        'independent/classes/0',
      )


@pytest.mark.parametrize(
  ('change', 'shared'),
  [
    ({'old': {'model': {'width': 0.5}}}, True),
    ({'model': {'width': 0.5}}, False),
  ],
)
def test_upgrades_share_an_independent_encoder_if_its_training_is_the_same(
  change, shared
):
  config = make_grid(upgrades={'classes': {}, 'images': change})
  jobs = by_name(make_jobs(config))

  assert ('independent/images/0' not in jobs) == shared


def test_each_seed_has_shared_trainings_of_its_own():
  jobs = by_name(make_jobs(make_grid(seeds=(0, 3))))

  for name in ('old/classes', 'independent/classes', 'images/advbct/fresh'):
    assert [jobs[f'{name}/{seed}'].config.seed for seed in (0, 3)] == [0, 3]
  assert jobs['images/independent/fresh/3'].encoder == 'independent/classes/3'


def test_an_adapter_stands_on_what_its_method_has_trained():
  block = make_block(
    upgrades=('classes',),
    starts=('aligned+ridge:forward',),
    policies=('adapter',),
  )
  *needed, cell = make_jobs(make_grid(blocks=(block,)))

  trained = needed[-1]
  assert [job.name for job in needed] == [
    'old/classes/0',
    'independent/classes/0',
    'classes/advbct/aligned/0',
  ]
  assert trained.trains
  assert trained.is_adapted
  assert not trained.policies
  assert not any(job.is_adapted for job in needed[:-1])
  assert cell.name == 'classes/advbct/aligned+ridge:forward/0'
  assert (cell.adapter, cell.direction) == ('ridge', 'forward')
  assert (cell.encoder, cell.trains) == (trained.name, False)
  assert set(cell.needs) == {job.name for job in needed}
  assert cell.policies == ('adapter',)
  # What the one that it stands on needs is taken along.
  assert select([*needed, cell], ['aligned+ridge:forward']) == [*needed, cell]


def test_the_cell_below_an_adapter_keeps_its_own_policies():
  blocks = (
    make_block(starts=('fresh+ridge',)),
    make_block(starts=('fresh',), policies=('auto',)),
  )
  jobs = by_name(make_jobs(make_grid(blocks=blocks)))

  assert jobs['classes/advbct/fresh/0'].policies == ('auto',)
  assert not jobs['classes/advbct/fresh+ridge/0'].policies


def test_a_cell_is_trained_by_what_its_upgrade_method_and_start_change():
  jobs = by_name(make_jobs(make_grid()))

  config = jobs['images/advbct/aligned/0'].config
  assert config.data.split.kind == 'extended_data'
  assert (config.method, config.epochs) == ('advbct', 7)
  assert config.model.init_weights == 'aligned'
  assert jobs['classes/advbct/fresh/0'].config.epochs == 30


def test_the_old_encoder_is_the_same_whatever_else_a_start_changes():
  config = make_grid(starts={'aligned': {'batch_size': 64}})
  jobs = by_name(make_jobs(config))

  assert jobs['classes/advbct/aligned/0'].config.batch_size == 64
  assert jobs['old/classes/0'].config.batch_size == 256
  # Not even where the start is the first to ask for it.
  config.blocks = config.blocks[::-1]
  assert by_name(make_jobs(config))['old/classes/0'].config.batch_size == 256


def test_only_an_adapter_is_fitted_and_only_tied_cells_are_trained():
  jobs = by_name(make_jobs(make_grid()))

  for name, trains, adapter in (
    ('classes/independent/fresh/0', False, ''),
    ('classes/independent/procrustes/0', False, 'procrustes'),
    ('classes/advbct/fresh/0', True, ''),
    ('independent/classes/0', True, ''),
  ):
    assert (jobs[name].trains, jobs[name].adapter) == (trains, adapter)


def test_a_cell_of_several_blocks_has_the_policies_of_all_of_them():
  blocks = (
    make_block(policies=('auto', 'old')),
    make_block(upgrades=('classes',), policies=('trained', 'auto')),
    make_block(methods=('l2',)),
  )
  jobs = by_name(make_jobs(make_grid(blocks=blocks)))

  for name, policies in (
    ('classes/advbct/fresh/0', ('auto', 'old', 'trained')),
    ('images/advbct/fresh/0', ('auto', 'old')),
    ('images/l2/fresh/0', ()),
    ('old/classes/0', ()),
  ):
    assert jobs[name].policies == policies


def test_encoders_that_the_config_names_are_not_trained():
  config = make_grid()
  config.base.old.path = 'old'
  assert {job.old for job in make_jobs(config)} == {''}
  assert 'old/classes/0' not in names(make_jobs(config))
  assert 'independent/classes/0' in names(make_jobs(config))

  config.base.data.features = 'new'
  jobs = make_jobs(config)
  assert all(job.cell and not job.needs for job in jobs)
  for job in jobs:
    assert job.trains == (job.cell[1] != 'independent')
    assert (job.config.old.path, job.config.data.features) == ('old', 'new')


@pytest.mark.parametrize(
  ('block', 'message'),
  [
    ({'upgrades': ('backbone',)}, "'backbone' is not among the upgrades"),
    ({'methods': ('mixbct',)}, "'mixbct' is not among the methods"),
    ({'starts': ('warm',)}, "'warm' is not among the starts; .* procrustes"),
    ({'starts': ('ridge',)}, 'classes/advbct/ridge makes no sense'),
    ({'starts': ('warm+ridge',)}, "'warm' is not among the starts; .* fresh"),
    ({'starts': ('fresh+rigde',)}, "names the adapter 'rigde'; wanted: one of"),
    ({'starts': ('fresh+ridge:up',)}, "no direction 'up'; wanted: backward or"),
    (
      {'starts': ('fresh+fastfill:backward',)},
      "fastfill has no direction 'backward'; wanted: forward",
    ),
    (
      {'methods': ('independent',), 'starts': ('fresh+ridge',)},
      r'independent/fresh\+ridge makes no sense',
    ),
    ({'starts': None}, 'starts of a block is None; wanted: a list or tuple'),
    ({'methods': 'advbct'}, "methods of a block is 'advbct'; wanted: a list"),
    ({'policies': 'auto'}, "policies of a block is 'auto'; wanted: a list"),
    ({'policies': ('best',)}, "the policy 'best' was asked for; wanted: one"),
    ({'policies': ('adapter',)}, "the policy 'adapter' was asked for; wanted"),
    (
      {
        'methods': ('independent',),
        'starts': ('ridge',),
        'policies': ('adapter', 'auto'),
      },
      "independent/ridge is to be judged by .* wanted: 'adapter' alone",
    ),
    (
      {'methods': ('independent',), 'starts': ('aligned',)},
      'classes/independent/aligned makes no sense',
    ),
  ],
)
def test_a_block_that_names_what_is_not_there_or_makes_no_sense_is_refused(
  block, message
):
  with pytest.raises(InputError, match=message):
    make_jobs(make_grid(blocks=(make_block(**block),)))


def test_an_upgrade_cannot_have_the_name_of_shared_encoders():
  config = make_grid(blocks=(make_block(upgrades=('old',)),))
  with config.unlocked():
    config.upgrades.old = {}
  with pytest.raises(InputError, match='wanted: another name for the upgrade'):
    make_jobs(config)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'methods': {'l2': {'method': 'l3'}}},
      r"config\.methods\.l2\.method is 'l3'; wanted: one of advbct",
    ),
    ({'methods': {'l2': {'epoch': 3}}}, r'Wanted: fields of config\.base'),
    ({'methods': {'l2': {'epochs': '3'}}}, r'Wanted: fields of config\.base'),
    (
      {'methods': {'independent': {'epochs': 3}}},
      'changes how the independent encoder is trained',
    ),
    (
      {'starts': {'fresh': {'epochs': 3}}},
      'changes how the independent encoder is trained',
    ),
  ],
)
def test_changes_that_cannot_be_made_are_refused(changes, message):
  config = make_grid(blocks=(make_block(methods=('l2', 'independent')),))
  with config.unlocked():
    config.update(changes)
  with pytest.raises(InputError, match=message):
    make_jobs(config)


@pytest.mark.parametrize(
  ('only', 'cells'),
  [
    (
      'aligned',
      ['classes/advbct/aligned/0', 'images/advbct/aligned/0'],
    ),
    ('images/advbct/fresh', ['images/advbct/fresh/0']),
    (
      'procrustes/0',
      [f'{u}/independent/procrustes/0' for u in ('classes', 'images')],
    ),
  ],
)
def test_cells_are_selected_by_parts_of_their_names_with_what_they_need(
  only, cells
):
  jobs = make_jobs(make_grid())
  selected = select(jobs, [only])

  assert names(job for job in selected if job.cell) == cells
  needed = {name for job in selected for name in job.needs}
  assert set(names(selected)) == needed | set(cells)
  assert selected == [job for job in jobs if job in selected]


def test_all_is_selected_where_nothing_is_named():
  jobs = make_jobs(make_grid())

  assert select(jobs, []) == jobs


@pytest.mark.parametrize('only', ['adv', 'fresh/advbct', 'old', '1'])
def test_a_selection_that_fits_no_cell_is_refused(only):
  jobs = make_jobs(make_grid())
  with pytest.raises(InputError) as refused:
    select(jobs, ['advbct', only])

  assert str(refused.value) == (
    f'--only={only}: no cell has that in its name; wanted: parts of '
    'UPGRADE/METHOD/START/SEED, such as classes/independent/fresh/0.'
  )


def test_a_job_that_is_not_there_is_refused():
  jobs = [Job('old/classes/0', None, 0, base.get_config(), 'old/classes/0')]

  assert find_job(jobs, 'old/classes/0') is jobs[0]
  with pytest.raises(InputError, match=r'--job=old/classes/1: .* no such job'):
    find_job(jobs, 'old/classes/1')


class Reader(Method):
  """A method that reads an independent encoder's embeddings as well."""

  stores: ClassVar[tuple[str, ...]] = ('independent',)


def test_a_method_that_reads_the_independent_store_needs_that_encoder(
  monkeypatch,
):
  monkeypatch.setitem(METHODS, 'reader', Reader)
  config = make_grid(blocks=(make_block(methods=('reader', 'advbct')),))
  with config.unlocked():
    config.methods.reader = {'method': 'reader'}
  jobs = by_name(make_jobs(config))

  for upgrade in ('classes', 'images'):
    job = jobs[f'{upgrade}/reader/fresh/0']
    assert job.needs == (f'old/{upgrade}/0', 'independent/classes/0')
    assert (job.trains, job.config.method) == (True, 'reader')
    assert jobs[f'{upgrade}/advbct/fresh/0'].needs == (f'old/{upgrade}/0',)
  assert jobs['independent/classes/0'].config.method == 'independent'


def test_the_comparison_lays_out_each_cell_and_its_trainings_once():
  jobs = make_jobs(comparison.get_config())

  # Of each seed, on 3 upgrades: the independent encoder and adapters upon it, 2
  # of them forward too; each tied encoder, and a rotation upon it. The 2 with a
  # fixed classifier, beside the independent one, are on a fourth, and a method
  # is no upgrade. 7 encoders from 2 other starts, and rotations upon them; then
  # AdvBCT of normalized vectors. 4 old encoders, 1 independent one.
  upon_independent, tied = len(ADAPTERS) + 2, len(METHODS) - 4
  cells = 3 * (1 + upon_independent + 2 * tied) + 3 + 7 * 2 * 2 + 1
  assert sum(job.cell is not None for job in jobs) == 3 * cells
  assert len(jobs) == 3 * (cells + 4 + 1)
  assert len(set(names(jobs))) == len(jobs)
  before = set()
  for job in jobs:
    assert before.issuperset(job.needs)
    before.add(job.name)
  assert {job.adapter for job in jobs} == {'', *ADAPTERS}


def test_a_new_method_or_adapter_is_in_the_comparison_by_its_entry(monkeypatch):
  monkeypatch.setitem(METHODS, 'reader', Reader)
  monkeypatch.setitem(ADAPTERS, 'toy_map', ADAPTERS['ridge'])
  jobs = by_name(make_jobs(comparison.get_config()))

  for upgrade in ('extended_class', 'extended_data', 'extended_backbone'):
    assert f'{upgrade}/reader/fresh/0' in jobs
    assert jobs[f'{upgrade}/independent/toy_map/0'].adapter == 'toy_map'


def test_a_method_without_an_old_model_is_not_among_the_compatible(monkeypatch):
  class Alone(Method):
    needs_old_model: ClassVar[bool] = False

  monkeypatch.setitem(METHODS, 'alone', Alone)
  assert not [
    job
    for job in make_jobs(comparison.get_config())
    if job.cell and job.cell[1] == 'alone'
  ]


@pytest.mark.parametrize(
  'grid',
  [comparison, comparison_advbct, comparison_methods, comparison_photos],
)
def test_each_training_of_the_comparisons_can_be_made(grid, monkeypatch):
  for name in RESNETS:  # what is made of features is looked at here
    shallow = partial(ResNet, (1, 1, 1, 1), BasicBlock)
    monkeypatch.setitem(RESNETS, name, shallow)
  jobs = make_jobs(grid.get_config())
  check_jobs(jobs)
  # The other upgrades differ in their old side alone.
  upgrades = ('extended_class', 'fixed_classifier')
  for job in jobs:
    upgrade = job.cell[0] if job.cell else 'extended_class'
    if job.trains and job.seed == 0 and upgrade in upgrades:
      make_run(job.config).check()
      drops = job.config.optimizer.drop_epochs
      assert all(0 < drop < job.config.epochs for drop in drops)


def test_each_head_of_the_comparison_of_vectors_can_be_trained():
  config = comparison_vectors.get_config()
  config.base.model.dimension = 16
  jobs = make_jobs(config)

  # Those need more than frozen encoders say, or are no upgrade.
  others = {*METHODS} - {'bt2', 'd_simplex', 'hoc', 'prunnet'}
  assert {job.cell[1] for job in jobs} == {*others, 'no_tie'}
  assert {job.adapter for job in jobs} == {'', *ADAPTERS} - {'fct'}
  for job in jobs:
    start, _, adapter = job.cell[2].partition('+')
    untouched = '/'.join((*job.cell[:2], start, '0'))
    assert job.needs == ((untouched,) if adapter else ())
    assert bool(job.policies) != bool(adapter)
    if job.trains:
      make_run(job.config).check()


def test_each_head_can_start_at_the_weights_of_one_that_knew_less():
  jobs = make_jobs(comparison_heads.get_config())

  assert {job.cell[2] for job in jobs if job.cell and job.trains} == {
    'fresh',
    'old',
  }
  for job in jobs:
    if job.trains:
      make_run(job.config).check()
