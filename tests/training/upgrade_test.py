"""Which workdirs and old encoders an upgrade takes, and which it refuses."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from advbct_jax.data.images import digest_ids
from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.embeddings.store import Card, open_store, write_store
from advbct_jax.errors import InputError
from advbct_jax.experiment import train_and_judge
from advbct_jax.retrieval.protocols import protocol_of
from advbct_jax.training.checkpoints import load_trained, read_config
from advbct_jax.training.logging import read_metrics
from advbct_jax.training.old_side import (
  check_old_side,
  old_config,
  prepare_old_side,
)
from advbct_jax.training.training_images import open_training_images
from advbct_jax.training.upgrade import describe_upgrade, train_upgrade
from advbct_jax.training.workdir import require_same_run

STORE = 'old/embeddings/tiny-train'


def random_vectors(ids, dimension=8):
  return np.random.default_rng(0).normal(size=(len(ids), dimension))


def write_old_store(path, ids, embeddings=None, labels=None):
  """Writes a store as of somebody else's encoder."""
  if embeddings is None:
    embeddings = random_vectors(ids)
  card = Card(
    encoder='black box',
    weights='unknown',
    dimension=embeddings.shape[1],
    preprocessing='unknown',
    images='tiny-train',
    ids_digest=digest_ids(ids),
    count=len(ids),
    labels_digest=None if labels is None else digest_ids(labels),
  )
  write_store(path, card, ids, embeddings.astype(np.float32), labels)


@pytest.fixture
def training_ids(finished):
  return (finished / STORE / 'ids.txt').read_text().splitlines()


def test_a_workdir_of_another_config_is_refused_naming_the_fields(
  config, finished
):
  config.optimizer.learning_rate = 0.2
  config.model.width = 1 / 8
  with pytest.raises(InputError) as refused:
    require_same_run(finished, config)

  assert str(refused.value) == (
    f'{finished}: the run in this workdir has another config:\n'
    '  model.width: 0.0625 there, 0.125 here\n'
    '  optimizer.learning_rate: 0.1 there, 0.2 here\n'
    'Name another --workdir, or go back to the config of this one.'
  )


def test_fields_that_change_nothing_may_change(config, finished):
  config.data.root = 'elsewhere'
  config.data.workers = 3
  config.data.memory_mib = 0
  config.checkpoint.every_steps = 1
  config.log.tensorboard = True
  config.evaluation.data = ('roxford5k',)
  config.old.path = 'moved'
  config.shard_classes = True

  require_same_run(finished, config)


def test_a_workdir_in_which_nothing_was_trained_may_change(
  config, finished, tmp_path
):
  shutil.copy(finished / 'config.json', tmp_path)
  config.seed = 1

  require_same_run(tmp_path, config)


def test_an_old_encoder_of_another_config_is_refused(
  config, finished, tmp_path
):
  shutil.copytree(finished / 'old', tmp_path / 'old')
  config.seed = 1
  with pytest.raises(InputError, match=r'/old: the run in this .*\n  seed: 0'):
    train_upgrade(config, tmp_path)


def test_the_old_encoder_is_trained_by_its_own_part_of_the_config(config):
  config.old.model.width = 1 / 4
  config.old.epochs = 7
  config.old.optimizer.drop_epochs = (3,)
  old = old_config(config)

  assert (old.method, old.data.part, old.epochs) == ('independent', 'old', 7)
  assert old.model.width == 1 / 4
  assert old.optimizer.drop_epochs == (3,)
  # What the new encoder is trained by stays as it was.
  assert (config.method, config.data.part, config.epochs) == (
    'advbct',
    'all',
    2,
  )


def test_a_workdir_says_what_it_was_trained_by(config, finished):
  given = json.loads(json.dumps(config.to_dict()))  # which has no tuples

  assert read_config(finished).to_dict() == given
  assert read_config(finished / 'old').data.part == 'old'


@pytest.mark.parametrize('path', [STORE, 'old/embeddings'])
def test_stores_stand_for_the_encoder_that_filled_them(
  config, finished, tmp_path, path
):
  config.old.path = str(finished / path)
  train_upgrade(config, tmp_path)

  losses = [
    [line['loss'] for line in read_metrics(workdir)]
    for workdir in (finished, tmp_path)
  ]
  assert losses[0] == losses[1]
  assert not (tmp_path / 'old').exists()


def test_an_unfinished_old_encoder_is_refused(config, finished, tmp_path):
  shutil.copytree(finished / 'old', tmp_path / 'old')
  inputs = tmp_path / 'old' / 'inputs.json'
  inputs.write_text(json.dumps(json.loads(inputs.read_text()) | {'steps': 6}))
  config.old.path = str(tmp_path / 'old')
  with pytest.raises(
    InputError, match=r'/old: .* is at step 2 of 6; wanted: o'
  ):
    train_upgrade(config, tmp_path / 'new')


def test_an_old_encoder_of_another_split_is_refused(config, finished, tmp_path):
  config.old.path = str(finished / 'old')
  config.data.split.old_fraction = 0.25
  config.data.split.kind = 'extended_data'
  with pytest.raises(InputError) as refused:
    train_upgrade(config, tmp_path)

  assert str(refused.value) == (
    f'{finished}/old: the old encoder was trained on another part of the data '
    'than this config thinks:\n'
    '  share of the training set: 0.5 there, 0.25 here\n'
    "  split.kind: 'extended_class' there, 'extended_data' here\n"
    'Name another config.old.path, or set config.data.split to that of the old '
    'encoder.'
  )


@pytest.mark.parametrize('path', ['tiny-train', ''])
def test_rows_are_found_by_their_ids_in_a_store_of_everything_and_a_folder(
  config, finished, tmp_path, training_ids, path
):
  order = np.random.default_rng(0).permutation(len(training_ids))
  theirs = open_store(finished / STORE).read()
  write_old_store(
    tmp_path / 'stores/tiny-train',
    ['another', *(training_ids[row] for row in order)],
    np.concatenate([np.ones((1, 8), np.float32), theirs[order]]),
  )
  config.old.path = str(tmp_path / 'stores' / path)
  train_upgrade(config, tmp_path / 'new')

  losses = [
    [line['loss'] for line in read_metrics(workdir)]
    for workdir in (finished, tmp_path / 'new')
  ]
  assert losses[0] == losses[1]


def test_a_store_of_some_images_is_refused(config, tmp_path, training_ids):
  write_old_store(tmp_path / 'store', training_ids[:-1])
  config.old.path = str(tmp_path / 'store')
  with pytest.raises(InputError, match='no embedding of 1 of the 32 images of'):
    train_upgrade(config, tmp_path / 'new')


def test_labels_of_a_store_say_what_the_old_model_knows(
  config, finished, tmp_path, training_ids, capsys
):
  split = open_training_images(config, check=False).split
  names = [f'class {label}' if label >= 0 else '' for label in split.old_labels]
  write_old_store(
    tmp_path / 'store', training_ids, open_store(finished / STORE).read(), names
  )
  # What the config says of the old model does not count then.
  config.data.split.kind = 'extended_data'
  images = open_training_images(config, check=False)
  config.old.path = str(tmp_path / 'store')
  check_old_side(config, images)
  assert 'knows 16 images of 4 classes' in capsys.readouterr().out
  old = prepare_old_side(config, tmp_path / 'new', images)[0].model

  known = images.split.landmarks[old.old_class >= 0]
  assert set(known) == set(split.landmarks[split.old_class >= 0])
  config.data.split.kind = 'extended_class'
  config.old.path = str(finished / STORE)
  images = open_training_images(config, check=False)
  wanted = prepare_old_side(config, tmp_path / 'new', images)[0].model
  np.testing.assert_allclose(
    np.sort(old.statistics.radius_max), np.sort(wanted.statistics.radius_max)
  )


def test_a_begun_run_keeps_to_the_labels_of_its_old_side(
  config, finished, tmp_path, training_ids
):
  split = open_training_images(config, check=False).split
  vectors = open_store(finished / STORE).read()
  for name, known in (('few', 2), ('more', 3)):
    labels = [str(new) if new < known else '' for new in split.labels]
    write_old_store(tmp_path / name, training_ids, vectors, labels)
  config.old.path = str(tmp_path / 'few')
  train_upgrade(config, tmp_path / 'new')
  config.old.path = str(tmp_path / 'more')
  with pytest.raises(InputError, match=r'old_side: .* there, .* here'):
    train_upgrade(config, tmp_path / 'new')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'ids': slice(1, None)}, 'no embedding of 1 of the 32 images'),
    ({'start': 'old'}, 'only vectors are known'),
    ({'labels': 'torn'}, 'have different labels'),
  ],
)
def test_a_dry_run_refuses_the_stores_that_a_training_would(
  config, tmp_path, training_ids, change, message
):
  labels = None
  if 'labels' in change:
    labels = [f'class {row}' for row in range(len(training_ids))]
  ids = training_ids[change.get('ids', slice(None))]
  write_old_store(tmp_path / 'store', ids, labels=labels)
  config.old.path = str(tmp_path / 'store')
  config.model.init_weights = change.get('start', '')
  with pytest.raises(InputError, match=message):
    describe_upgrade(config, tmp_path / 'new')
  assert not (tmp_path / 'new').exists()


def test_beside_vectors_a_run_may_give_the_weights_to_start_from(
  config, finished, tmp_path
):
  config.model.init_weights = 'old'
  config.old.path = str(finished / 'old')
  train_upgrade(config, tmp_path / 'wanted')
  config.old.path = str(finished / STORE)
  config.old.weights = str(finished / 'old')
  train_upgrade(config, tmp_path / 'new')

  losses = [
    [line['loss'] for line in read_metrics(tmp_path / name)]
    for name in ('wanted', 'new')
  ]
  assert losses[0] == losses[1]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'old.path': 'old'}, 'old.weights is .* has weights itself'),
    ({'old.path': ''}, r'old.weights is .* \(trained first\) has weights'),
    ({'old.weights': 'nowhere'}, 'nowhere/config.json: cannot read'),
    ({'model.head': 'linear'}, r'another head \(batch_norm\)'),
  ],
)
def test_weights_that_cannot_be_started_from_are_refused(
  config, finished, tmp_path, changes, message
):
  config.model.init_weights = 'old'
  config.old.path = str(finished / STORE)
  config.old.weights = str(finished / 'old')
  for name, value in changes.items():
    named = name.startswith('old') and value
    config.update_from_flattened_dict(
      {name: str(finished / value) if named else value}
    )
  with pytest.raises(InputError, match=message):
    describe_upgrade(config, tmp_path / 'new')


def test_a_dry_run_looks_at_the_start_of_the_old_encoder_too(config, tmp_path):
  config.old.model.init_weights = str(tmp_path / 'nowhere.safetensors')
  with pytest.raises(InputError, match='no such weights file'):
    describe_upgrade(config, tmp_path / 'new')


def test_the_first_components_of_a_wider_encoder_are_tied_to_the_old(
  config, finished, tmp_path
):
  config.model.dimension = 12
  config.model.compatible_dimension = 8
  config.old.path = str(finished / 'old')
  train_and_judge(config, tmp_path)

  results = json.loads((tmp_path / 'results.json').read_text())
  assert results['encoders']['new']['dimension'] == 12
  assert results['encoders']['new']['compatible_dimension'] == 8
  stores = tmp_path / 'embeddings'
  queries = open_store(stores / 'tiny-test').read()
  gallery = open_store(finished / 'old/embeddings/tiny-index').read()
  figures = results['datasets']['tiny']
  assert figures['cross'] == measured(config, queries[:, :8], gallery)
  gallery = open_store(stores / 'tiny-index').read()
  assert figures['self'] == measured(config, queries, gallery)


def measured(config, queries, gallery):
  (retrieval_set,) = open_retrieval_sets(
    config.evaluation.data, config.data.root, crop_queries=False
  )
  gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
  ranks = np.argsort(-queries @ gallery.T, axis=1)
  figures = protocol_of(retrieval_set).measure(
    ranks, retrieval_set.ground_truth
  )
  return {name: 100 * figure for name, figure in figures.items()}


def test_a_store_of_another_width_is_refused(config, tmp_path, training_ids):
  write_old_store(
    tmp_path / 'store', training_ids, random_vectors(training_ids, dimension=4)
  )
  config.old.path = str(tmp_path / 'store')
  with pytest.raises(
    InputError, match=r'have 4 dimensions, config.model.dimens'
  ):
    train_upgrade(config, tmp_path / 'new')


def test_an_old_path_that_leads_nowhere_is_refused(config, tmp_path):
  config.old.path = str(tmp_path / 'nowhere')
  with pytest.raises(InputError, match='nowhere'):
    train_upgrade(config, tmp_path / 'new')


def test_an_unknown_part_of_the_data_is_refused(config, tmp_path):
  config.method = 'independent'
  config.data.part = 'new'
  with pytest.raises(InputError, match="part is 'new'; wanted: all or old"):
    train_upgrade(config, tmp_path)


def test_another_width_is_refused_before_the_old_encoder_is_trained(
  config, tmp_path
):
  config.old.model.dimension = 4
  with pytest.raises(InputError, match='have 4 dimensions, config'):
    train_upgrade(config, tmp_path)

  assert not (tmp_path / 'old').exists()


@pytest.mark.parametrize(
  ('field', 'value', 'refused'),
  [
    ('model.pooling', 'mean', None),
    ('model.pooling', 'gem', 'pooling (mean)'),
    ('data.normalization', 'half', 'normalization (imagenet)'),
  ],
)
def test_a_start_from_the_old_weights_wants_the_same_pooling_and_pixels(
  config, finished, tmp_path, field, value, refused
):
  config.old.path = str(finished / 'old')
  config.model.init_weights = 'old'
  config.update_from_flattened_dict({field: value})
  if refused:
    with pytest.raises(InputError, match=re.escape(f'another {refused};')):
      describe_upgrade(config, tmp_path)
  else:
    assert 'old encoder:' in describe_upgrade(config, tmp_path)


def test_a_start_from_another_shape_is_refused_before_any_training(
  config, tmp_path
):
  config.model.init_weights = 'old'
  config.model.width = 1 / 8
  with pytest.raises(InputError, match=r'has another width \(0\.0625\)'):
    train_upgrade(config, tmp_path)

  assert not (tmp_path / 'old').exists()


def test_a_begun_run_keeps_to_its_old_encoder(
  config, finished, tmp_path, training_ids
):
  shutil.copytree(finished, tmp_path / 'new')
  write_old_store(tmp_path / 'other', training_ids)
  config.old.path = str(tmp_path / 'other')
  with pytest.raises(InputError, match=r'old_side: .* there, .* here'):
    train_upgrade(config, tmp_path / 'new')


def test_an_old_encoder_of_other_images_is_refused(config, finished, tmp_path):
  shutil.copytree(finished / 'old', tmp_path / 'old')
  inputs = tmp_path / 'old' / 'inputs.json'
  theirs = json.loads(inputs.read_text()) | {'training_images': 'f00'}
  inputs.write_text(json.dumps(theirs))
  config.old.path = str(tmp_path / 'old')
  with pytest.raises(InputError, match='trained on part of other images'):
    train_upgrade(config, tmp_path / 'new')


@pytest.mark.parametrize('path', ['old', 'old/embeddings'])
def test_bct_takes_the_old_classifier_or_says_what_stands_in_for_it(
  config, finished, tmp_path, capsys, path
):
  config.method = 'bct'
  config.old.path = str(finished / path)
  images = open_training_images(config, check=False)
  old = prepare_old_side(config, tmp_path, images)[0].model

  told = capsys.readouterr().out
  if path == 'old':
    kernel = load_trained(finished / 'old').params['classifier']['kernel']
    np.testing.assert_array_equal(old.classifier, kernel.T)
    assert 'in its stead' not in told
  else:
    assert old.classifier is None
    assert 'bct takes the centres of the classes in its stead' in told


def test_an_upgrade_trains_against_a_black_box(config, finished, tmp_path):
  config.method = 'bct'
  config.epochs = 1
  config.optimizer.drop_epochs = ()
  config.old.path = str(finished / 'old/embeddings')
  train_upgrade(config, tmp_path)
  lines = read_metrics(tmp_path)
  assert len(lines) == 4
  assert all(np.isfinite(line['loss']) for line in lines)
  assert lines[0]['loss'] > lines[0]['classification_loss']


def test_the_options_of_other_methods_may_change(config, finished):
  config.l2.weight = 3.0
  require_same_run(finished, config)
  config.advbct.threshold = 0.5
  with pytest.raises(InputError, match=r'advbct\.threshold: 1\.0 there, 0\.5'):
    require_same_run(finished, config)


def test_the_second_training_in_a_workdir_is_told_who_the_first_is(
  config, tmp_path
):
  holder = subprocess.Popen(
    [
      sys.executable,
      '-c',
      'import sys, time\n'
      'from advbct_jax.locks import hold\n'
      f'with hold({str(tmp_path)!r}, "trains"):\n'
      '  print("held", flush=True)\n'
      '  time.sleep(600)\n',
    ],
    stdout=subprocess.PIPE,
  )
  try:
    assert holder.stdout.readline() == b'held\n'
    with pytest.raises(InputError) as refused:
      train_upgrade(config, tmp_path)
  finally:
    holder.kill()
    holder.wait()

  assert f'process {holder.pid} on ' in str(refused.value)
  assert 'trains here since' in str(refused.value)
  # Nothing was written beside what the first has there.
  assert {path.name for path in tmp_path.iterdir()} <= {'.lock'}
