"""What a table of problems takes out of a training."""

import pathlib
import shutil

import numpy as np
import pytest

from advbct_jax.commands.prepare import main
from advbct_jax.data.images import digest_ids
from advbct_jax.data.problem_tables import Problem, write_problems
from advbct_jax.embeddings.store import Card, write_store
from advbct_jax.errors import InputError
from advbct_jax.training.checked_images import load_checked_images
from advbct_jax.training.config_checks import check_config
from advbct_jax.training.old_side import prepare_old_side
from advbct_jax.training.run import Run
from advbct_jax.training.training_images import open_training_images
from advbct_jax.training.workdir import differences_between

# Of the tiny landmarks class 0 has the training images 0000 to 0003, class 1
# 0100 to 0103, and so on.
SMALL = Problem('train', '0000', 'too_small', detail='4 × 4 pixels')
SAME = Problem('train', '0101', 'duplicate', 'train/0100', 'same bytes')
TORN = Problem('train', '0201', 'duplicate', 'train/0100', 'same bytes')
SHARED = Problem('train', '0300', 'shared', 'test/0304', 'same bytes')
NEAR = Problem('train', '0401', 'near_duplicate', 'train/0400')
BROKEN = Problem('train', '0500', 'unreadable', detail='x.jpg: cannot decode')
ELSEWHERE = Problem('index', '0005', 'unreadable')
ALL = [SMALL, SAME, TORN, SHARED, NEAR, BROKEN, ELSEWHERE]


@pytest.fixture
def table(config, tmp_path) -> pathlib.Path:
  path = tmp_path / 'checked.csv'
  config.data.checked = str(path)
  config.data.on_problem = 'skip'
  return path


def test_without_a_table_all_are_used(config):
  assert load_checked_images(config).usable.all()


def test_stop_counts_the_problems_and_names_the_first(config, table):
  write_problems(table, ALL)
  config.data.on_problem = 'stop'
  with pytest.raises(InputError) as refused:
    open_training_images(config, check=False)
  message = str(refused.value)
  assert message.startswith(
    f'{table}: 1 too_small, 2 duplicate, 1 shared, 1 unreadable among the 32 '
    'images of tiny-train:\n'
    '  0000 too_small 4 × 4 pixels\n'
    '  0101 duplicate train/0100 same bytes\n'
  )
  assert '--config.data.on_problem=skip' in message
  assert 'near_duplicate' not in message


def test_stop_trains_where_nothing_counts(config, table):
  write_problems(table, [NEAR, ELSEWHERE])
  config.data.on_problem = 'stop'
  assert len(open_training_images(config, check=False).split.new_rows) == 32
  write_problems(table, [])
  assert load_checked_images(config).usable.all()


def test_skip_leaves_images_out_and_keeps_the_rows_of_the_readable(
  config, table, capsys
):
  write_problems(table, [])
  before = open_training_images(config, check=False)
  write_problems(table, ALL)
  images = open_training_images(config, check=False)
  assert '1 too_small, 1 duplicate, 1 shared, 1 unreadable' in (
    capsys.readouterr().out
  )
  ids = [image_id for image_id in before.image_set.ids if image_id != '0500']
  assert images.image_set.ids == ids
  left_out = ['0000', '0101', '0300']
  rows = [ids.index(image_id) for image_id in left_out]
  assert np.flatnonzero(images.split.labels < 0).tolist() == rows
  assert (images.split.old_labels[rows] == -1).all()
  # Whatever else there is keeps its class, and the class its number.
  kept = {i: n for i, n in zip(ids, images.split.labels, strict=True) if n >= 0}
  all_labels = zip(before.image_set.ids, before.split.labels, strict=True)
  assert kept.items() <= dict(all_labels).items()
  np.testing.assert_array_equal(images.split.old_class, before.split.old_class)


def test_further_problems_count_where_they_are_asked_for(config, table):
  write_problems(table, [SMALL, NEAR])
  config.data.problems = ('near_duplicate',)
  checked = load_checked_images(config)
  ids = np.array(checked.image_set.ids)
  assert ids[~checked.usable].tolist() == ['0401']


@pytest.mark.parametrize('kind', ['extended_class', 'extended_data'])
def test_a_class_without_two_usable_images_is_refused(config, table, kind):
  config.data.split.kind = kind
  write_problems(
    table,
    [Problem('train', f'040{number}', 'too_small') for number in range(3)],
  )
  with pytest.raises(InputError, match=r'first of them: 4\. A class needs'):
    open_training_images(config, check=False)


def test_in_extended_data_every_class_stays_old(config, table):
  config.data.split.kind = 'extended_data'
  config.data.split.old_fraction = 0.3  # one image of each class
  write_problems(table, [])
  known = open_training_images(config, check=False)
  [row] = np.flatnonzero(known.split.old_labels == 0)
  lost = known.image_set.ids[row]
  write_problems(table, [Problem('train', lost, 'too_small')])
  split = open_training_images(config, check=False).split
  assert np.count_nonzero(split.old_labels == 0) == 1
  assert split.old_labels[row] == -1
  others = known.split.old_labels > 0
  np.testing.assert_array_equal(split.old_labels > 0, others)


@pytest.mark.parametrize(
  'problem',
  [
    Problem('train', 'nobody', 'too_small'),
    Problem('train', '0000', 'duplicate', 'train/nobody'),
  ],
)
def test_a_table_of_another_data_set_is_refused(config, table, problem):
  write_problems(table, [problem])
  with pytest.raises(InputError, match="names the image 'nobody', which tiny"):
    load_checked_images(config)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('on_problem', 'ignore', "on_problem is 'ignore'; wanted: one of stop, "),
    ('problems', ('blurred',), "problems names 'blurred'; wanted: some of un"),
    ('max_pixels', 0, 'max_pixels is 0; wanted: more than 0'),
  ],
)
def test_fields_that_mean_nothing_are_refused(config, field, value, message):
  config.data[field] = value
  with pytest.raises(InputError, match=message):
    check_config(config)


def test_a_broken_image_is_found_and_left_out(config, tmp_path):
  root = tmp_path / 'landmarks'
  shutil.copytree(config.data.root, root)
  (root / 'train/0/0/0/0001.jpg').write_bytes(b'<html>')
  config.data.root = str(root)
  config.data.memory_mib = 0
  with pytest.raises(InputError, match='1 of 32 images cannot be used'):
    open_training_images(config, check=True)
  main(['check', f'tiny:{root}'])
  config.data.checked = str(root / 'checked.csv')
  config.data.on_problem = 'skip'
  images = open_training_images(config, check=True)
  assert images.load(np.arange(31))['image'].shape == (31, 16, 16, 3)
  # What is left is looked at all the same.
  (root / 'train/0/0/0/0003.jpg').write_bytes(b'<html>')
  with pytest.raises(InputError, match=r'1 of 31 images .*\n.*0003\.jpg'):
    open_training_images(config, check=True)


def test_a_store_of_all_images_serves_a_table_that_takes_some_out(
  config, table, tmp_path
):
  write_problems(table, [])
  ids = load_checked_images(config).image_set.ids
  labels = [image_id[:2] for image_id in ids]
  write_problems(table, [SMALL, BROKEN])
  vectors = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
  card = Card(
    encoder='black box',
    weights='unknown',
    dimension=8,
    preprocessing='unknown',
    images='tiny-train',
    ids_digest=digest_ids(ids),
    count=32,
    labels_digest=digest_ids(labels),
  )
  write_store(tmp_path / 'store', card, ids, vectors, labels)
  config.old.path = str(tmp_path / 'store')
  images = open_training_images(config, check=False)
  old, _ = prepare_old_side(config, tmp_path / 'new', images)
  kept = [row for row, image_id in enumerate(ids) if image_id != '0500']
  np.testing.assert_array_equal(old.embeddings, vectors[kept])
  # By the labels of the store, too, the old model has not seen it.
  assert old.old_labels[0] == -1 != old.old_labels[1]


def test_a_run_is_made_from_what_is_left_out(config, table):
  def inputs(*problems):
    write_problems(table, problems)
    images = open_training_images(config, check=False)
    config.method = 'independent'
    return Run(config, images.training_set('all'), None).inputs

  none, small, broken = inputs(), inputs(SMALL), inputs(BROKEN)
  assert 'left_out' not in none
  assert inputs(SMALL, ELSEWHERE, NEAR) == small
  [difference] = differences_between(none, {**small, 'steps': none['steps']})
  assert difference.startswith('left_out: None there')
  assert none['training_images'] == small['training_images']
  assert none['training_images'] != broken['training_images']
