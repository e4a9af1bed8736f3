"""A chain: trained, judged, gone on with."""

import json
import shutil

import numpy as np
import pytest

from advbct_jax.chains.run import describe_chain, run_chain
from advbct_jax.embeddings.store import open_store, write_store
from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import load_encoder, load_trained
from advbct_jax.training.run import Run
from tests.chains.tiny_chain import tiny_chain
from tests.tiny_upgrade import contents

METRIC = 'all/map@100'


def make_config(vectors, steps=2):
  """The last head is wider than the old encoder and the first head."""
  config = tiny_chain(vectors, 0.5, 1.0)
  config.base.model.init_weights = ''
  config.steps[1]['model'] = {'dimension': 8, 'compatible_dimension': 6}
  config.steps = config.steps[:steps]
  return config


@pytest.fixture(scope='module')
def shorter(vectors, tmp_path_factory):
  """The folder of a chain of two that is all done; not to be changed."""
  root = tmp_path_factory.mktemp('shorter')
  run_chain(make_config(vectors, steps=1), root)
  return root


@pytest.fixture(scope='module')
def chain(vectors, shorter, tmp_path_factory):
  """The same of three, which has gone on from that of two."""
  root = tmp_path_factory.mktemp('chain') / 'chain'
  shutil.copytree(shorter, root)
  run_chain(make_config(vectors), root)
  return root


def read_results(root):
  return json.loads((root / 'chain.json').read_text())


def figures_of(root, step):
  results = json.loads((root / str(step) / 'results.json').read_text())
  return results['datasets']['vectors']


def test_the_matrix_has_what_each_upgrade_was_judged_by(chain):
  measured = read_results(chain)['datasets']['vectors']
  matrix = np.array(measured['matrices'][METRIC])
  assert matrix.shape == (3, 3)
  for step in (2, 3):  # the wider one is searched by its compatible part
    row = column = step - 1
    figures = figures_of(chain, step)
    assert matrix[row, column] == figures['self'][METRIC]
    assert matrix[row, column - 1] == figures['cross'][METRIC]
    assert matrix[row - 1, column - 1] == figures['old'][METRIC]


def test_each_step_knows_more_classes_than_the_one_before(chain):
  kernels = [
    load_trained(chain / step).params['classifier']['kernel'].shape
    for step in ('2', '3')
  ]
  assert kernels == [(6, 2), (8, 4)]
  configs = [
    json.loads((chain / step / 'config.json').read_text()) for step in '23'
  ]
  assert configs[1]['old']['path'] == str(chain / '2')
  assert configs[1]['data']['split']['old_fraction'] == 0.5


def test_the_report_has_the_matrix_the_scores_and_a_picture(chain):
  text = (chain / 'chain.md').read_text()
  measured = read_results(chain)['datasets']['vectors']
  main = measured['matrices'][measured['main_metric']]
  for figure in np.ravel(main):
    assert f'{figure:.2f}' in text
  assert (
    f'Average compatibility {measured["average_compatibility"]:.3f}' in text
  )
  assert f'average accuracy {measured["average_accuracy"]:.2f}' in text
  assert '![vectors](chain-vectors.png)' in text
  assert (chain / 'chain-vectors.png').read_bytes().startswith(b'\x89PNG')


def test_a_chain_that_is_done_trains_and_judges_nothing(
  chain, vectors, monkeypatch
):
  before = {step: contents(chain / step) for step in '23'}
  for name in ('train_upgrade', 'judge'):
    monkeypatch.setattr(f'advbct_jax.experiment.{name}', None)
  run_chain(make_config(vectors), chain)
  assert {step: contents(chain / step) for step in '23'} == before


def test_a_longer_chain_goes_on_from_a_shorter_one(chain, shorter):
  one, other = (
    (root / '2/metrics.jsonl').read_text() for root in (chain, shorter)
  )
  assert one == other
  here, there = (
    np.array(read_results(root)['datasets']['vectors']['matrices'][METRIC])
    for root in (chain, shorter)
  )
  np.testing.assert_array_equal(here[:2, :2], there)


def unit(vectors):
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope='module')
def tied_to_all(vectors, shorter, tmp_path_factory):
  """A chain of a given encoder and three heads, the last tied to all before."""
  root = tmp_path_factory.mktemp('all') / 'chain'
  shutil.copytree(shorter, root)
  run_chain(make_tied_to_all(vectors), root)
  return root


def make_tied_to_all(vectors):
  config = make_config(vectors)
  config.tied_to = 'all'
  return config


def test_a_step_tied_to_all_has_the_mean_of_their_unit_vectors_as_old_encoder(
  tied_to_all, vectors
):
  for name, split in (('train', 'train'), ('index', 'index'), ('test', 'test')):
    stores = (
      vectors / 'old' / split,
      tied_to_all / '2/embeddings' / f'vectors-{name}',
    )
    wanted = np.mean([unit(open_store(one).read()) for one in stores], axis=0)
    mean = open_store(tied_to_all / '3/before' / f'vectors-{name}')
    np.testing.assert_allclose(mean.read(), wanted, atol=1e-6)
  config = json.loads((tied_to_all / '3/config.json').read_text())
  assert config['old']['path'] == str(tied_to_all / '3/before')
  assert 'tied to' in (tied_to_all / 'chain.md').read_text()
  assert (
    '| 3 | l2 | the mean of steps 1 to 2 |'
    in (tied_to_all / 'chain.md').read_text()
  )


def test_tied_to_all_changes_no_step_before_the_third(tied_to_all, chain):
  same = [
    (tied_to_all / step / 'metrics.jsonl').read_text()
    == (chain / step / 'metrics.jsonl').read_text()
    for step in '23'
  ]
  assert same == [True, False]


def test_tied_to_all_a_chain_that_is_done_trains_nothing(
  tied_to_all, vectors, monkeypatch
):
  before = {step: contents(tied_to_all / step) for step in '23'}
  for name in ('train_upgrade', 'judge'):
    monkeypatch.setattr(f'advbct_jax.experiment.{name}', None)
  run_chain(make_tied_to_all(vectors), tied_to_all)
  assert {step: contents(tied_to_all / step) for step in '23'} == before


def test_tied_to_all_a_step_starts_from_the_weights_of_the_one_before(
  vectors, shorter, tmp_path
):
  root = tmp_path / 'chain'
  shutil.copytree(shorter, root)
  config = make_tied_to_all(vectors)
  config.steps = (
    config.steps[0],
    {'model': {'init_weights': 'old'}, 'optimizer': {'learning_rate': 1e-12}},
  )
  run_chain(config, root)
  one, other = (load_encoder(root / step).variables for step in '23')
  np.testing.assert_allclose(
    other['params']['projection']['kernel'],
    one['params']['projection']['kernel'],
    atol=1e-6,
  )


def test_a_chain_killed_within_a_step_ends_as_one_that_was_not(
  chain, shorter, vectors, tmp_path, monkeypatch
):
  root = tmp_path / 'chain'
  shutil.copytree(shorter, root)
  config = make_config(vectors)
  # Checkpoints may be made more often than they were elsewhere.
  config.base.checkpoint.every_steps = 1
  batches = []
  complete = Run.complete_batch

  def die_in_third_step(self, batch):
    batches.append(batch)
    if len(batches) == 3:
      raise KeyboardInterrupt
    return complete(self, batch)

  monkeypatch.setattr(Run, 'complete_batch', die_in_third_step)
  with pytest.raises(KeyboardInterrupt):
    run_chain(config, root)
  assert not (root / '3/results.json').exists()
  monkeypatch.undo()

  run_chain(config, root)
  assert len(batches) == 3
  here, there = (
    load_trained(each / '3').params['encoder'] for each in (root, chain)
  )
  np.testing.assert_array_equal(
    here['projection']['kernel'], there['projection']['kernel']
  )
  assert read_results(root)['datasets'] == read_results(chain)['datasets']


@pytest.mark.parametrize(
  ('breakage', 'message'),
  [
    ('missing', r'step 2: .*/2: the training .* Step 3 was begun after it'),
    ('unfinished', r'step 2: .*/2: the training .* Step 3 was begun after it'),
    ('other_config', r'step 2: .*/2: the run .* has another config:\n  epochs'),
    ('damaged_config', r'step 2: .*/2/config.json: cannot read'),
    (
      'damaged_weights',
      r'step 2: .*/2/checkpoints/\d+: .* is damaged',
    ),
    ('other_encoder', r'step 3: .*/3: this run was begun with .*another old'),
  ],
)
def test_a_broken_link_is_named(chain, vectors, tmp_path, breakage, message):
  root = tmp_path / 'chain'
  shutil.copytree(chain, root)
  config = make_config(vectors)
  link = root / '2'
  if breakage == 'missing':
    shutil.rmtree(link)
  elif breakage == 'unfinished':
    (link / 'inputs.json').write_text('{"steps": 99}')
  elif breakage == 'other_config':
    config.steps[0]['epochs'] = 2
  elif breakage == 'damaged_config':
    (link / 'config.json').write_text('{')
  elif breakage == 'damaged_weights':
    (root / '3/results.json').unlink()
    for path in (link / 'checkpoints').rglob('*'):
      if path.is_file():
        path.write_bytes(b'')
  elif breakage == 'other_encoder':
    (root / '3/results.json').unlink()
    store = link / 'embeddings/vectors-train'
    turned = open_store(store).read()[::-1]
    card = open_store(store).card
    ids = open_store(store).ids()
    shutil.rmtree(store)
    write_store(store, card, ids, turned)
  before = contents(root / '3')
  with pytest.raises(InputError, match=message):
    run_chain(config, root)
  assert {path for path in before} <= {path for path in contents(root / '3')}


@pytest.mark.parametrize('tied_to', ['previous', 'all'])
def test_a_model_is_replaced_in_a_chain_with_a_fixed_classifier(
  vectors, tmp_path, tied_to
):
  config = tiny_chain(vectors, 0.5, 0.5, 1.0)
  config.tied_to = tied_to
  config.base.old.path = ''
  config.base.method = 'hoc'
  config.base.hoc.vertices = config.base.d_simplex.vertices = 9
  config.base.model.init_weights = 'old'
  config.steps[0]['method'] = 'd_simplex'
  config.steps[2]['model'] = {
    'architecture': 'features_mlp',
    'init_weights': '',
  }
  run_chain(config, tmp_path)

  results = read_results(tmp_path)
  methods = [step['method'] for step in results['steps']]
  assert methods == ['d_simplex', 'hoc', 'hoc']
  assert results['steps'][2]['tied to'] == (
    'step 2' if tied_to == 'previous' else 'the mean of steps 1 to 2'
  )
  for step in '123':  # nothing but the encoder was learnt
    assert list(load_trained(tmp_path / step).params) == ['encoder']


def test_a_dry_run_names_the_steps_and_trains_nothing(vectors, tmp_path):
  text = describe_chain(tiny_chain(vectors, 0.5, 1.0), tmp_path)
  assert f'step 1: {vectors}/old' in text
  assert f'step 3: {tmp_path}/3, tied to step 2' in text
  assert '16 images of 2 classes' in text
  assert '32 images of 4 classes' in text
  assert not list(tmp_path.rglob('checkpoints'))


def test_a_given_encoder_has_to_have_vectors_of_what_is_judged_on(
  vectors, tmp_path
):
  config = tiny_chain(vectors, 0.5, 1.0)
  shutil.copytree(vectors / 'old/train', tmp_path / 'stores/vectors-train')
  config.base.old.path = str(tmp_path / 'stores')
  with pytest.raises(InputError, match='no vectors of all queries'):
    run_chain(config, tmp_path / 'chain')
  assert not list(tmp_path.rglob('checkpoints'))


def test_a_chain_that_judges_nothing_is_refused(vectors, tmp_path):
  config = tiny_chain(vectors, 0.5, 1.0)
  config.base.evaluation.data = ()
  with pytest.raises(InputError, match='there would be no matrix'):
    run_chain(config, tmp_path)
