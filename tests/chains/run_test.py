"""A chain: trained, judged, gone on with."""

import json
import shutil

import numpy as np
import pytest

from advbct_jax.chains.run import describe_chain, run_chain
from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import load_trained
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


def test_a_dry_run_names_the_steps_and_trains_nothing(vectors, tmp_path):
  text = describe_chain(tiny_chain(vectors, 0.5, 1.0), tmp_path)
  assert f'step 1: {vectors}/old' in text
  assert 'step 3' in text
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
