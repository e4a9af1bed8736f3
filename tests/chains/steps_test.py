"""What cannot be a chain is refused before anything is trained."""

import itertools
import shutil

import pytest

from advbct_jax.chains.steps import check_steps, make_steps
from advbct_jax.convert.vector_data import prepare_vectors
from advbct_jax.errors import InputError
from advbct_jax.training.old_side import check_old_encoder
from configs import chain_fixed_classifier
from tests.chains.tiny_chain import tiny_chain
from tests.tiny_vectors import write_files


def plan(config, root):
  steps = make_steps(config, root)
  check_steps(steps)
  return steps


@pytest.mark.parametrize(
  ('steps', 'message'),
  [
    ((), 'config.steps has 0 steps, .* wanted: two encoders at least'),
    ('0.5', "config.steps is '0.5'; wanted: a tuple"),
    (({'epoch': 3},), r'step 2: a change of config.base fails: .*epoch'),
    (({'epochs': 'many'},), 'step 2: a change of config.base fails'),
    ((3,), 'step 2: a change of config.base fails'),
    (({}, {'method': 'magic'}), "step 3: .*'magic'"),
    (({}, {'epochs': 0}), 'step 3: config.epochs is 0'),
    (
      ({}, {'model': {'dimension': 4}}),
      'step 3: the old embeddings .*/2.* have 6 dimensions, '
      'config.model.dimension is 4',
    ),
    (
      ({'method': 'independent', 'model': {'dimension': 4}},),
      'step 2: the old embeddings .* have 6 dimensions',
    ),
    (
      ({}, {'model': {'architecture': 'features_mpl'}}),
      'step 3: .*features_mpl',
    ),
    (
      ({}, {'data': {'split': {'new_fraction': 0.5}}}),
      r'step 3: its data.split.new_fraction is 0.5, less than the 1.0',
    ),
    (({'data': {'name': 'b'}},), 'step 2: it changes data.name, which all'),
    (
      ({'evaluation': {'crop_queries': False}},),
      'step 2: it changes evaluation, which all steps share',
    ),
  ],
  ids=str,
)
def test_a_chain_that_cannot_work_is_refused(vectors, tmp_path, steps, message):
  config = tiny_chain(vectors)
  with config.ignore_type():
    config.steps = steps
  with pytest.raises(InputError, match=message):
    plan(config, tmp_path)
  assert not list(tmp_path.rglob('checkpoints'))


def test_one_step_is_no_chain_where_no_encoder_is_given(vectors, tmp_path):
  config = tiny_chain(vectors, 1.0)
  config.base.old.path = ''
  with pytest.raises(InputError, match=r'config\.steps has 1 steps'):
    plan(config, tmp_path)


def test_a_first_step_without_a_given_encoder_is_trained_as_the_old_one(
  vectors, tmp_path
):
  config = tiny_chain(vectors, 0.5, 1.0)
  config.base.old.path = ''
  config.base.old.epochs = 2
  config.base.old.model.head = 'batch_norm'
  first, second = (step.config for step in plan(config, tmp_path))
  assert (first.method, second.method) == ('independent', 'l2')
  assert (first.epochs, second.epochs) == (2, 1)
  assert (first.model.head, second.model.head) == ('batch_norm', 'linear')
  assert (first.model.dimension, second.model.dimension) == (8, 8)
  assert first.data.split.new_fraction == second.data.split.old_fraction == 0.5
  assert second.old.path == str(tmp_path / '1')


def test_shares_of_things_without_labels_are_refused(tmp_path):
  files = write_files(tmp_path / 'files', labelled=('index', 'test'))
  prepare_vectors(files / 'old', files / 'new', tmp_path / 'set')
  config = tiny_chain(tmp_path / 'set', 0.5, 1.0)
  with pytest.raises(
    InputError, match=r'step 2: .* is 0\.5, but the 32 things'
  ):
    plan(config, tmp_path / 'chain')


def test_a_first_step_cannot_be_tied_to_anything(vectors, tmp_path):
  config = tiny_chain(vectors, 0.5, 1.0)
  config.base.old.path = ''
  config.steps = ({'method': 'l2'}, {})
  with pytest.raises(InputError, match="step 1: its method is 'l2', but it"):
    plan(config, tmp_path)


def test_no_two_encoders_of_the_same_classes_are_drawn_alike(vectors, tmp_path):
  config = tiny_chain(vectors, 0.5, 1.0, 1.0, 1.0)
  config.base.old.path = ''
  seeds = [step.config.seed for step in plan(config, tmp_path)]
  # Others start from the same weights, as the paper's do.
  assert seeds == [0, 0, 2, 3]


def test_a_first_encoder_that_is_not_there_is_named(vectors, tmp_path):
  config = tiny_chain(vectors, 0.5, 1.0)
  config.base.old.path = str(tmp_path / 'nowhere')
  with pytest.raises(InputError, match=r'step 1: .*nowhere.* there is nothing'):
    plan(config, tmp_path / 'chain')


def test_a_first_encoder_that_is_damaged_is_named(vectors, tmp_path):
  config = tiny_chain(vectors, 0.5, 1.0)
  shutil.copytree(vectors / 'old', tmp_path / 'old')
  config.base.model.dimension = 6
  (tmp_path / 'old/train/ids.txt').write_text('other\n')
  config.base.old.path = str(tmp_path / 'old')
  with pytest.raises(InputError, match=r'step 1: .*ids\.txt is not the list'):
    plan(config, tmp_path / 'chain')


def test_a_tie_that_there_is_not_is_refused(vectors, tmp_path):
  config = tiny_chain(vectors, 0.5, 1.0)
  config.tied_to = 'none'
  with pytest.raises(InputError, match="tied_to is 'none'; wanted: 'previous'"):
    plan(config, tmp_path)


def test_tied_to_all_the_third_step_and_later_ones_have_a_mean(
  vectors, tmp_path
):
  config = tiny_chain(vectors, 0.4, 0.7, 1.0)
  config.tied_to = 'all'
  config.base.model.init_weights = ''
  steps = plan(config, tmp_path)
  assert [step.tie for step in steps] == [
    *('', 'step 1', 'the mean of steps 1 to 2', 'the mean of steps 1 to 3')
  ]
  assert steps[1].config.old.path == str(vectors / 'old')
  assert steps[3].config.old.path == str(tmp_path / '4/before')
  assert steps[3].config.old.weights == ''
  config.steps[2]['method'] = 'independent'
  assert not plan(config, tmp_path)[3].mean_of


def test_tied_to_all_a_step_from_old_weights_names_the_one_before(
  vectors, tmp_path
):
  config = tiny_chain(vectors, 0.5, 1.0, 1.0)
  config.tied_to = 'all'
  config.steps[2]['model'] = {'init_weights': 'old'}
  config.base.model.init_weights = ''
  steps = plan(config, tmp_path)
  assert steps[3].config.old.weights == str(tmp_path / '3')
  config.steps[2]['model']['head'] = 'batch_norm'
  with pytest.raises(InputError, match=r'step 4: .* another head'):
    plan(config, tmp_path)


@pytest.mark.parametrize('tied_to', ['previous', 'all'])
def test_the_chain_with_a_fixed_classifier_fits_together(tmp_path, tied_to):
  config = chain_fixed_classifier.get_config()
  config.tied_to = tied_to
  steps = make_steps(config, tmp_path)
  for before, step in itertools.pairwise(steps):
    check_old_encoder(step.config, before.config)
  widths = [step.config.model.width for step in steps]
  assert widths == [0.25, 0.25, 0.375, 0.375]


def test_a_step_leaves_the_base_as_it_is(vectors, tmp_path):
  config = tiny_chain(vectors, 0.5, 1.0)
  config.base.old.path = ''
  config.steps[0]['model'] = {'head': 'batch_norm'}
  before = config.to_json()
  first, second = plan(config, tmp_path)
  assert first.config.model.head == 'batch_norm'
  assert second.config.model.head == 'linear'
  assert config.to_json() == before
