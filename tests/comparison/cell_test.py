"""A whole comparison of the tiny upgrade, job by job and by the command."""

import csv
import fcntl
import json
from typing import ClassVar

import ml_collections
import numpy as np
import pytest

from advbct_jax.adapters.adapter import load_adapter
from advbct_jax.comparison import cell
from advbct_jax.comparison.cell import check_jobs, require_same_jobs, run_job
from advbct_jax.comparison.estimate import describe_jobs
from advbct_jax.comparison.grid import make_jobs
from advbct_jax.comparison.report import main_metrics, write_tables
from advbct_jax.comparison.results import read_results
from advbct_jax.comparison.runner import (
  Place,
  is_done,
  mark_done,
  read_cells,
)
from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.errors import InputError
from advbct_jax.methods import METHODS
from advbct_jax.methods.method import Method
from advbct_jax.models.resnet import RESNETS
from advbct_jax.training.checkpoints import load_trained
from advbct_jax.training.logging import read_metrics
from tests.tiny_upgrade import TINY, contents, tiny_config

UPGRADES = ('extended_class', 'extended_data')

GRID = """
import pathlib
from tests.comparison import cell_test

def get_config():
  return cell_test.make_grid(pathlib.Path({!r}))
"""


def make_grid(landmarks):
  config = ml_collections.ConfigDict(
    {
      'base': tiny_config(landmarks),
      'upgrades': {
        'extended_class': {},
        'extended_data': {'data': {'split': {'kind': 'extended_data'}}},
      },
      'methods': {
        'independent': {'method': 'independent'},
        'advbct': {'method': 'advbct'},
      },
      'starts': {
        'fresh': {},
        'aligned': {'model': {'init_weights': 'aligned'}},
      },
    }
  )
  config.blocks = (
    {
      'upgrades': UPGRADES,
      'methods': ('independent',),
      'starts': ('fresh', 'procrustes'),
    },
    {
      'upgrades': ('extended_class',),
      'methods': ('advbct',),
      'starts': ('fresh', 'aligned', 'fresh+ridge:forward'),
    },
  )
  config.seeds = (0,)
  return config


@pytest.fixture(scope='module')
def grid(landmarks, tmp_path_factory):
  """The folder of a comparison that is all done, and its jobs."""
  root = tmp_path_factory.mktemp('grid')
  jobs = make_jobs(make_grid(landmarks))
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(RESNETS, 'tiny', TINY)
    for job in jobs:
      run_job(job, root)
      mark_done(root, job)
  return root, jobs


@pytest.fixture
def grid_file(landmarks, monkeypatch, tmp_path):
  monkeypatch.setitem(RESNETS, 'tiny', TINY)
  path = tmp_path / 'tiny_grid.py'
  path.write_text(GRID.format(str(landmarks)))
  return path


def read_figures(root, name):
  return json.loads((root / name / 'results.json').read_text())['datasets']


def test_each_cell_is_judged_and_each_training_is_made_once(grid):
  root, jobs = grid

  trained = {str(p.parent.relative_to(root)) for p in root.rglob('config.json')}
  assert trained == {
    'old/extended_class/0',
    'old/extended_data/0',
    'independent/extended_class/0',
    'extended_class/advbct/fresh/0',
    'extended_class/advbct/aligned/0',
  }
  assert len(read_cells(jobs, root)) == 7


def test_independent_cells_judge_the_shared_encoder(grid):
  root, _ = grid
  shared = read_figures(root, 'independent/extended_class/0')['tiny']['self']
  for upgrade in UPGRADES:
    old = read_figures(root, f'old/{upgrade}/0')['tiny']['self']
    for start in ('fresh', 'procrustes'):
      cell = read_figures(root, f'{upgrade}/independent/{start}/0')['tiny']
      assert cell['self'] == shared
      assert cell['old'] == old


def test_only_the_adapter_tells_its_cell_from_the_independent_one(grid):
  root, _ = grid
  for upgrade in UPGRADES:
    plain, mapped = (
      read_figures(root, f'{upgrade}/independent/{start}/0')['tiny']['cross']
      for start in ('fresh', 'procrustes')
    )
    assert mapped != plain
    adapter = load_adapter(
      root / f'{upgrade}/independent/procrustes/0' / 'adapter'
    )
    assert adapter.card.kind == 'procrustes'


def test_an_adapter_stands_on_a_trained_encoder(grid):
  root, _ = grid
  plain, adapted = (
    read_figures(root, f'extended_class/advbct/{start}/0')['tiny']
    for start in ('fresh', 'fresh+ridge:forward')
  )
  assert adapted['cross'] != plain['cross']
  assert (adapted['self'], adapted['old']) == (plain['self'], plain['old'])
  card = load_adapter(
    root / 'extended_class/advbct/fresh+ridge:forward/0' / 'adapter'
  ).card
  assert (card.kind, card.direction) == ('ridge', 'forward')


def test_what_an_adapter_is_to_stand_on_embeds_the_training_images_first(
  grid, landmarks
):
  root, _ = grid
  config = make_grid(landmarks)
  name = 'extended_class/advbct/aligned/0'
  assert is_done(root, next(j for j in make_jobs(config) if j.name == name))
  config.blocks[1]['starts'] = ('aligned+procrustes',)
  job = next(j for j in make_jobs(config) if j.name == name)
  assert job.is_adapted
  assert not is_done(root, job)


def test_old_encoders_of_different_splits_are_different(grid):
  root, _ = grid
  kernels = [
    load_trained(root / f'old/{upgrade}/0').params['encoder']['projection'][
      'kernel'
    ]
    for upgrade in UPGRADES
  ]
  assert not np.allclose(*kernels)


def test_an_aligned_start_is_not_a_fresh_one(grid):
  root, _ = grid
  fresh, aligned = (
    read_metrics(root / f'extended_class/advbct/{start}/0')
    for start in ('fresh', 'aligned')
  )
  assert fresh[0]['step'] == aligned[0]['step']
  assert fresh[0]['loss'] != aligned[0]['loss']


def test_a_job_that_is_done_again_trains_nothing_and_finds_the_same(
  grid, monkeypatch
):
  root, jobs = grid
  monkeypatch.setitem(RESNETS, 'tiny', TINY)
  checkpoints = [contents(path) for path in sorted(root.rglob('checkpoints'))]
  figures = [read_figures(root, job.name) for job in jobs]
  for job in jobs:
    run_job(job, root)

  assert checkpoints == [
    contents(path) for path in sorted(root.rglob('checkpoints'))
  ]
  assert figures == [read_figures(root, job.name) for job in jobs]


def test_tables_and_plots_of_all_cells_are_written(grid, landmarks, tmp_path):
  root, jobs = grid
  cells = read_cells(jobs, root)
  sets = open_retrieval_sets(('tiny',), str(landmarks), False)
  text = write_tables(cells, main_metrics(sets), tmp_path)

  assert (tmp_path / 'table.md').read_text() == text
  assert text.startswith(
    '# Comparison\n\n### extended_class\n\n`private/map@100`'
  )
  assert text.count('in percent') == len(UPGRADES)
  for upgrade in UPGRADES:
    assert f'({upgrade}-tiny.png)' in text
    assert (tmp_path / f'{upgrade}-tiny.png').stat().st_size > 1000
  assert read_results(tmp_path / 'results.json') == cells
  rows = list(csv.DictReader((tmp_path / 'table.csv').open()))
  assert len(rows) == len(
    json.loads((tmp_path / 'table.json').read_text())['rows']
  )
  for row in rows:
    name = '/'.join((row['upgrade'], row['method'], row['start'], '0'))
    figures = read_figures(root, name)['tiny']
    for side in ('old', 'self', 'cross'):
      measured = figures[side]['private/map@100']
      assert float(row[f'{side}_mean']) == pytest.approx(measured, abs=1e-6)


def test_a_training_that_is_done_by_another_config_is_refused(grid, landmarks):
  root, jobs = grid
  require_same_jobs(jobs, root)
  config = make_grid(landmarks)
  config.base.old.epochs = 3
  with pytest.raises(
    InputError, match=r'old/extended_class/0: .*\n  epochs: 1 there, 3 here'
  ):
    require_same_jobs(make_jobs(config), root)


@pytest.mark.parametrize(
  ('upgrade', 'method', 'start', 'message'),
  [
    (
      {'old': {'model': {'width': 0.5}}},
      'advbct',
      'old',
      'narrow/advbct/old/0: .* another width',
    ),
    (
      {'model': {'dimension': 4, 'compatible_dimension': 4}},
      'advbct',
      'fresh',
      'narrow/advbct/fresh/0: the old embeddings .* have 8 dimensions',
    ),
    (
      {'model': {'dimension': 4, 'compatible_dimension': 4}},
      'independent',
      'procrustes',
      'narrow/independent/procrustes/0: .* cannot be turned',
    ),
    (
      {'model': {'head': 'none'}},
      'advbct',
      'aligned',
      'narrow/advbct/aligned/0: .*head is none',
    ),
    (
      {'hoc': {'vertices': 9}},
      'hoc',
      'fresh',
      "narrow/hoc/fresh/0: .*one of 'independent'; wanted: one of d_simplex",
    ),
    (
      {'old': {'method': 'bct'}},
      'advbct',
      'fresh',
      "config.old.method is 'bct', which would need an old encoder itself",
    ),
  ],
)
def test_a_cell_that_cannot_work_is_refused_before_anything_is_trained(
  landmarks, monkeypatch, upgrade, method, start, message
):
  monkeypatch.setitem(RESNETS, 'tiny', TINY)
  config = make_grid(landmarks)
  config.upgrades.narrow = upgrade
  config.starts.old = {'model': {'init_weights': 'old'}}
  config.methods[method] = {'method': method}
  config.blocks = (
    {'upgrades': ('narrow',), 'methods': (method,), 'starts': (start,)},
  )
  with pytest.raises(InputError, match=message):
    check_jobs(make_jobs(config))


class Reader(Method):
  stores: ClassVar[tuple[str, ...]] = ('independent',)


def _reader_jobs(landmarks, monkeypatch, stores=None):
  """The jobs of a method that reads further stores."""
  monkeypatch.setitem(RESNETS, 'tiny', TINY)
  monkeypatch.setitem(METHODS, 'reader', Reader)
  config = make_grid(landmarks)
  config.methods.reader = {'method': 'reader'}
  if stores is not None:
    config.base.stores = stores
  config.blocks = (
    {
      'upgrades': ('extended_class',),
      'methods': ('reader', 'advbct'),
      'starts': ('fresh',),
    },
  )
  return {job.name: job for job in make_jobs(config)}


@pytest.mark.parametrize('stores', [None, {'independent': ''}])
def test_a_method_that_reads_the_independent_store_is_told_where_it_lies(
  landmarks, monkeypatch, tmp_path, stores
):
  jobs = _reader_jobs(landmarks, monkeypatch, stores)
  check_jobs(list(jobs.values()))
  trained = {}

  def train(config, workdir):
    trained[str(workdir.relative_to(tmp_path))] = config

  monkeypatch.setattr(cell, 'train_upgrade', train)
  monkeypatch.setattr(cell, 'judge', lambda *args, **options: None)
  for method in ('reader', 'advbct'):
    run_job(jobs[f'extended_class/{method}/fresh/0'], tmp_path)

  reader = trained['extended_class/reader/fresh/0']
  assert reader.stores.independent == str(
    tmp_path / 'independent/extended_class/0'
  )
  assert reader.old.path == str(tmp_path / 'old/extended_class/0')
  assert not reader.aligned.path
  other = trained['extended_class/advbct/fresh/0']
  assert not other.get('stores', {}).get('independent')


def test_a_store_that_nothing_fills_is_refused_before_anything_is_trained(
  landmarks, monkeypatch
):
  monkeypatch.setattr(Reader, 'stores', ('independent', 'teacher'))
  jobs = _reader_jobs(landmarks, monkeypatch)
  with pytest.raises(
    InputError,
    match=r"reader/fresh/0: .* 'teacher'.*config\.base\.stores\.teacher",
  ):
    check_jobs(list(jobs.values()))
  given = {'independent': '', 'teacher': '/somewhere'}
  check_jobs(list(_reader_jobs(landmarks, monkeypatch, given).values()))


def test_a_job_that_another_process_is_at_is_refused(grid):
  root, jobs = grid
  with (root / jobs[0].name / '.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(InputError, match='another process is at it'):
      run_job(jobs[0], root)


def test_jobs_are_not_done_any_more_where_others_sets_shall_be_judged(
  grid, landmarks
):
  root, jobs = grid
  assert all(is_done(root, job) for job in jobs)
  config = make_grid(landmarks)
  config.base.evaluation.data = ('tiny', 'more')
  assert not any(is_done(root, job) for job in make_jobs(config))


def test_what_is_done_and_what_is_left_are_told_before_anything_runs(
  grid, landmarks, tmp_path, monkeypatch
):
  root, jobs = grid
  assert '10 jobs, 10 of them done; about 0 minutes' in describe_jobs(
    jobs, root, [Place()] * 2
  )
  monkeypatch.setattr(
    'advbct_jax.comparison.estimate._time_steps', lambda config: 60.0
  )
  lines = describe_jobs(jobs, tmp_path, [Place()] * 2).splitlines()

  # 32 training images in batches of 8; the old models know half of them.
  told = {line.split()[0]: line.split()[1:] for line in lines}
  assert told['old/extended_class/0'] == ['2', 'steps', '2.0', 'min']
  assert told['extended_class/advbct/aligned/0'] == ['8', 'steps', '8.0', 'min']
  assert told['extended_data/independent/fresh/0'][0] == 'judging'
  assert '0 of them done; about 28 minutes' in lines[-1]
  assert '14 with 2 at a time' in lines[-1]


def test_the_command_runs_a_job_alone_and_marks_it_done(
  grid_file, command, landmarks, tmp_path
):
  root = tmp_path / 'root'
  command(
    'compare',
    f'--config={grid_file}',
    f'--workdir={root}',
    '--job=old/extended_data/0',
  )

  done = [
    job.name for job in make_jobs(make_grid(landmarks)) if is_done(root, job)
  ]
  assert done == ['old/extended_data/0']


@pytest.mark.parametrize(
  ('option', 'message'),
  [
    (
      '--job=old/extended_data/7',
      'the comparison has no such job; wanted: one',
    ),
    ('--only=hot_refresh', '--only=hot_refresh: no cell has that in its name'),
    ('--seeds=0,one', '--seeds=0,one; wanted: whole numbers'),
    ('--config.methods.advbct.method=mix', "methods.advbct.method is 'mix'"),
    (
      '--config.methods.advbct.method=independent',
      'wanted: the name independent for the method independent',
    ),
    ('--config.data.root=x', 'the config has no field data.'),
    ('--config.base.data.root=', 'Say --config.base.data.root=FOLDER'),
  ],
)
def test_the_command_refuses_what_the_grid_lacks_and_writes_nothing(
  grid_file, command, tmp_path, capsys, option, message
):
  root = tmp_path / 'root'
  with pytest.raises(SystemExit) as ended:
    command('compare', f'--config={grid_file}', f'--workdir={root}', option)

  assert ended.value.code == 2
  assert message in capsys.readouterr().err
  assert not root.exists()


def test_the_command_writes_tables_of_seeds_that_were_done_before_too(
  grid, grid_file, landmarks, command, tmp_path
):
  # Everything is done: no job is started.
  root = tmp_path / 'root'
  config = make_grid(landmarks)
  config.seeds = (0, 5)
  for job in make_jobs(config):
    done = grid[0] / job.name.rsplit('/', 1)[0] / '0' / 'results.json'
    (root / job.name).mkdir(parents=True)
    (root / job.name / 'results.json').write_text(done.read_text())
    mark_done(root, job)
  command(
    'compare',
    f'--config={grid_file}',
    f'--workdir={root}',
    '--seeds=5',
    '--jobs=1',
  )

  assert {cell.seed for cell in read_results(root / 'results.json')} == {0, 5}


def test_the_command_refuses_a_folder_that_another_process_compares_in(
  grid_file, command, tmp_path, capsys
):
  root = tmp_path / 'root'
  root.mkdir()
  with (root / '.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(SystemExit) as ended:
      command('compare', f'--config={grid_file}', f'--workdir={root}')

  assert ended.value.code == 2
  assert f'{root}: another process is at it' in capsys.readouterr().err
  assert [path.name for path in root.iterdir()] == ['.lock']
