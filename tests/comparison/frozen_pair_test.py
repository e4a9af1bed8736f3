"""A comparison on the vectors of two frozen encoders: nothing but heads."""

import csv
import json
import shutil

import ml_collections
import numpy as np
import pytest

from advbct_jax.comparison.cell import check_jobs, require_same_jobs, run_job
from advbct_jax.comparison.estimate import describe_jobs
from advbct_jax.comparison.grid import make_jobs
from advbct_jax.comparison.report import write_tables
from advbct_jax.comparison.runner import Place, is_done, mark_done, read_cells
from advbct_jax.convert.vector_data import prepare_vectors
from advbct_jax.errors import InputError
from advbct_jax.experiment import settle_vectors
from tests.tiny_upgrade import contents
from tests.tiny_vectors import NEW_WIDTH, tiny_head_config, write_files

POLICIES = ('old', 'auto', 'cascade:5')


GRID = """
from tests.comparison import frozen_pair_test

def get_config():
  return frozen_pair_test.make_grid({!r})
"""


def make_grid(root, policies=POLICIES):
  config = ml_collections.ConfigDict(
    {
      'upgrades': {'frozen': {}},
      'methods': {
        'independent': {'method': 'independent'},
        'l2': {'method': 'l2'},
      },
      'starts': {
        'fresh': {},
        'aligned': {'model': {'init_weights': 'aligned'}},
      },
    }
  )
  config.base = tiny_head_config(root)
  config.blocks = tuple(
    {
      'upgrades': ('frozen',),
      'methods': (method,),
      'starts': (start,),
      'policies': names,
    }
    for method, start, names in (
      ('independent', 'fresh', policies),
      ('independent', 'ridge', ('adapter',)),
      ('l2', 'fresh', ('trained',)),
    )
  )
  config.seeds = (0,)
  return config


def settled_grid(root, workdir, **options):
  config = make_grid(root, **options)
  config.base = settle_vectors(config.base, workdir)
  return config


@pytest.fixture(scope='module')
def vectors(tmp_path_factory):
  """Vectors of two encoders of one width; not to be changed."""
  folder = tmp_path_factory.mktemp('pair')
  files = write_files(folder / 'files', old_width=NEW_WIDTH)
  prepare_vectors(files / 'old', files / 'new', folder / 'set')
  return folder / 'set'


@pytest.fixture(scope='module')
def grid(vectors, tmp_path_factory):
  """The folder of a comparison that is all done, and its jobs."""
  root = tmp_path_factory.mktemp('grid')
  jobs = make_jobs(settled_grid(vectors, root))
  check_jobs(jobs)
  for job in jobs:
    run_job(job, root)
    mark_done(root, job)
  return root, jobs


def cells_of(grid):
  root, jobs = grid
  return {(cell.method, cell.start): cell for cell in read_cells(jobs, root)}


def test_given_encoders_are_judged_as_they_are_and_none_is_trained(grid):
  root, jobs = grid
  assert {
    str(p.parent.relative_to(root)) for p in root.rglob('config.json')
  } == {'frozen/l2/fresh/0'}
  assert [job.needs for job in jobs] == [()] * 3
  plain, mapped = (
    cells_of(grid)['independent', start].figures['vectors']
    for start in ('fresh', 'ridge')
  )
  assert plain['old'] == mapped['old']
  assert plain['self'] == mapped['self'] != plain['old']
  assert plain['cross'] != mapped['cross']


def test_curves_of_all_policies_go_from_the_old_gallery_to_self(grid):
  cells = cells_of(grid)
  starting = {
    ('independent', 'fresh'): {'old': 'old', 'auto': None, 'cascade:5': None},
    ('independent', 'ridge'): {'adapter': 'cross'},
    ('l2', 'fresh'): {'trained': 'cross'},
  }
  for key, policies in starting.items():
    figures = cells[key].figures['vectors']
    refresh = cells[key].refresh['vectors']
    assert list(refresh) == list(policies)
    for policy, start in policies.items():
      for metric, curve in refresh[policy].items():
        assert curve['100'] == pytest.approx(figures['self'][metric])
        if start:
          assert curve['0'] == pytest.approx(figures[start][metric])


def test_a_cell_is_judged_again_but_not_trained_again_for_other_policies(
  grid, vectors
):
  root, _ = grid
  config = settled_grid(vectors, root)
  changed = {**config.blocks[2], 'policies': ('old',)}
  config.blocks = (*config.blocks[:2], changed)
  others = make_jobs(config)
  assert [is_done(root, job) for job in others] == [True, True, False]
  require_same_jobs(others, root)

  before = contents(root / 'frozen/l2/fresh/0/checkpoints')
  judged = root / 'frozen/l2/fresh/0/refresh_policies.json'
  text = judged.read_text()
  run_job(others[2], root)
  (curve,) = json.loads(judged.read_text())['vectors']['curves']
  assert curve['policy'] == 'old'
  assert contents(root / 'frozen/l2/fresh/0/checkpoints') == before
  judged.write_text(text)


def test_tables_hold_policies_adapters_and_methods_against_each_other(
  grid, tmp_path
):
  text = write_tables(
    list(cells_of(grid).values()), ['private/map@100'], tmp_path
  )
  for row in (
    '| Independent | fresh | auto, both encoders |',
    '| Independent | ridge | adapter |',
    '| L2 | fresh | trained |',
  ):
    assert row in text
  assert '(frozen-vectors-refresh.png)' in text
  assert (tmp_path / 'frozen-vectors-refresh.png').stat().st_size > 10_000
  rows = list(csv.DictReader((tmp_path / 'refresh.csv').open()))
  assert [row['policy'] for row in rows] == [*POLICIES, 'adapter', 'trained']


def test_each_seed_re_embeds_in_another_order(grid, vectors, tmp_path):
  config = settled_grid(vectors, grid[0], policies=('old',))
  config.blocks = config.blocks[:1]
  config.seeds = (0, 1)
  curves = []
  for job in make_jobs(config):
    run_job(job, tmp_path)
    text = (tmp_path / job.name / 'refresh_policies.json').read_text()
    curves.append(json.loads(text)['vectors']['curves'][0]['mean'])
  assert curves[0][0] == curves[1][0]
  assert not np.allclose(*curves)


def test_the_time_of_a_head_is_estimated_from_its_features(vectors, tmp_path):
  jobs = make_jobs(settled_grid(vectors, tmp_path))
  first, *_, head, _ = describe_jobs(jobs, tmp_path, [Place()]).splitlines()
  assert first.split()[:2] == ['frozen/independent/fresh/0', 'judging']
  assert head.split()[:3] == ['frozen/l2/fresh/0', '8', 'steps']


def test_encoders_of_two_widths_are_judged_without_a_cross(tmp_path):
  files = write_files(tmp_path / 'files')
  prepare_vectors(files / 'old', files / 'new', tmp_path / 'set')
  root = tmp_path / 'root'
  jobs = make_jobs(settled_grid(tmp_path / 'set', root))[:2]
  check_jobs(jobs)
  for job in jobs:
    run_job(job, root)
    mark_done(root, job)

  plain, mapped = read_cells(jobs, root)
  assert list(plain.figures['vectors']) == ['old', 'self']
  assert list(plain.refresh['vectors']) == list(POLICIES)
  assert plain.figures['vectors'].items() <= mapped.figures['vectors'].items()
  text = write_tables([plain, mapped], ['private/map@100'], tmp_path)
  row = next(
    line for line in text.splitlines() if '| Independent | fresh |' in line
  )
  assert row.split(' | ')[3:] == ['–', '50.00', '–', '– |']


def test_the_command_makes_stores_of_files_and_runs_a_cell_on_them(
  tmp_path, command
):
  files = write_files(tmp_path / 'files', old_width=NEW_WIDTH)
  prepare_vectors(files / 'old', files / 'new', tmp_path / 'set')
  for side in ('old', 'new'):
    shutil.rmtree(tmp_path / 'set' / side)
    shutil.copytree(files / side, tmp_path / 'set' / side)
  (tmp_path / 'tiny_pair.py').write_text(GRID.format(str(tmp_path / 'set')))
  root = tmp_path / 'root'
  name = 'frozen/independent/ridge/0'
  command(
    'compare',
    f'--config={tmp_path}/tiny_pair.py',
    f'--workdir={root}',
    f'--job={name}',
  )

  assert (root / name / 'done').exists()
  results = json.loads((root / name / 'results.json').read_text())
  assert results['encoders']['old']['dimension'] == NEW_WIDTH
  for side in ('old', 'features'):
    assert (root / 'vectors' / side / 'index' / 'card.json').exists()


def test_features_cannot_be_aligned(vectors, tmp_path):
  config = settled_grid(vectors, tmp_path)
  config.blocks = ({**config.blocks[2], 'starts': ('aligned',)},)
  with pytest.raises(InputError, match=r"l2/aligned/0: .* wanted: 'rotation'"):
    check_jobs(make_jobs(config))
