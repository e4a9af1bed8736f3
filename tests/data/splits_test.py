import pathlib

import numpy as np
import pytest

from advbct_jax.data.splits import split_by_old_labels, split_training_set
from advbct_jax.errors import InputError

# 13 landmarks of 2 to 14 images, in no order.
SIZES = {100 + 7 * number: number + 2 for number in range(13)}
LANDMARKS = np.random.default_rng(0).permutation(
  np.repeat(list(SIZES), list(SIZES.values()))
)


def _split(kind, old_fraction=0.3, seed=666, landmarks=LANDMARKS):
  return split_training_set(landmarks, kind, old_fraction, seed)


def _old_counts(split):
  """How many images of each landmark the old model was trained on."""
  return {
    int(landmark): int((split.old_labels[landmark == LANDMARKS] >= 0).sum())
    for landmark in split.landmarks
  }


@pytest.mark.parametrize('kind', ['extended_class', 'extended_data'])
def test_labels_are_dense_and_name_their_landmark(kind):
  split = _split(kind)
  assert (split.classes, sorted(split.landmarks)) == (13, sorted(SIZES))
  assert set(split.labels.tolist()) == set(range(13))
  np.testing.assert_array_equal(split.landmarks[split.labels], LANDMARKS)
  assert split.labels.dtype == split.old_labels.dtype == np.int32


@pytest.mark.parametrize('kind', ['extended_class', 'extended_data'])
def test_old_classes_come_first_and_have_the_same_numbers(kind):
  split = _split(kind)
  old = split.old_classes
  assert split.old_class.tolist() == [*range(old), *[-1] * (13 - old)]
  rows = split.old_rows
  np.testing.assert_array_equal(split.old_labels[rows], split.labels[rows])
  assert set(split.old_labels[rows].tolist()) == set(range(old))
  others = np.setdiff1d(np.arange(len(LANDMARKS)), rows)
  assert (split.old_labels[others] == -1).all()


def test_extended_class_takes_30_percent_of_the_classes_whole():
  split = _split('extended_class')
  assert split.old_classes == 3  # ⌊0.3·13⌋
  counts = _old_counts(split)
  for position, landmark in enumerate(split.landmarks.tolist()):
    assert counts[landmark] == (SIZES[landmark] if position < 3 else 0)


def test_extended_data_takes_30_percent_of_each_class_and_one_at_least():
  split = _split('extended_data')
  assert split.old_classes == 13
  counts = _old_counts(split)
  # Of 2 to 14 images.
  wanted = [1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4]
  assert [counts[landmark] for landmark in SIZES] == wanted


@pytest.mark.parametrize('kind', ['extended_class', 'extended_data'])
def test_a_smaller_share_is_part_of_a_larger_one_by_the_same_numbers(kind):
  first = split_training_set(LANDMARKS, kind, 0.3, 666, new_fraction=0.6)
  second = split_training_set(LANDMARKS, kind, 0.6, 666)
  np.testing.assert_array_equal(first.labels, second.old_labels)
  np.testing.assert_array_equal(first.new_rows, second.old_rows)
  assert first.classes == second.old_classes
  np.testing.assert_array_equal(
    first.landmarks, second.landmarks[: first.classes]
  )
  assert set(first.old_rows) < set(first.new_rows) < set(second.new_rows)
  assert len(second.new_rows) == len(LANDMARKS)


@pytest.mark.parametrize('kind', ['extended_class', 'extended_data'])
def test_the_seed_decides(kind):
  first, again, other = _split(kind), _split(kind), _split(kind, seed=1)
  for name in ('labels', 'landmarks', 'old_labels', 'old_class'):
    np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
  assert not np.array_equal(first.landmarks, other.landmarks)
  assert not np.array_equal(first.old_rows, other.old_rows)


def test_which_images_of_a_class_are_old_is_drawn_at_random():
  landmarks = np.repeat([1, 2], 10)
  drawn = np.zeros(20)
  for seed in range(200):
    drawn[_split('extended_data', seed=seed, landmarks=landmarks).old_rows] += 1
  # 3 of 10 each time: 60 of 200 for every image, ± 4 deviations of 6.5.
  assert drawn.sum() == 200 * 6
  assert 34 < drawn.min() <= drawn.max() < 86


@pytest.mark.parametrize(
  ('landmarks', 'kind', 'fraction', 'message'),
  [
    (
      LANDMARKS,
      'extended_clas',
      0.3,
      "config.data.split.kind is 'extended_clas'; wanted: extended_class or "
      'extended_data.',
    ),
    (
      LANDMARKS,
      'extended_class',
      1.5,
      'config.data.split.old_fraction is 1.5 and new_fraction 1.0; wanted: '
      'shares between 0 and 1',
    ),
    (
      LANDMARKS,
      'extended_class',
      0.05,
      'the old part of the split is empty: 0.05 of 13 classes is less than '
      'one.',
    ),
    (
      np.array([4, 4, 4]),
      'extended_data',
      0.3,
      'the training set has 1 classes; at least 2 are wanted.',
    ),
    (
      np.array([4, 4, 17, 8, 8, 23]),
      'extended_data',
      0.3,
      '2 classes of the training set have a single image, the first of them: '
      '17, 23.',
    ),
  ],
)
def test_what_cannot_be_split_is_refused(landmarks, kind, fraction, message):
  with pytest.raises(InputError) as refusal:
    _split(kind, fraction, landmarks=landmarks)
  assert str(refusal.value).startswith(message)


def test_old_labels_may_join_new_classes_and_leave_images_out():
  split = _split('extended_class')
  # The old model saw even rows only, and took classes in pairs.
  names = [
    '' if row % 2 else f'pair {label // 2}'
    for row, label in enumerate(split.labels)
  ]
  known = split_by_old_labels(split, names, pathlib.Path('labels.txt'))
  assert known.old_rows.tolist() == list(range(0, len(LANDMARKS), 2))
  assert known.old_classes == 7
  np.testing.assert_array_equal(known.labels, split.labels)
  groups = [f'pair {label // 2}' for label in range(13)]
  for row in known.old_rows:
    old = known.old_labels[row]
    assert old == known.old_class[split.labels[row]]
    assert sorted(set(groups))[old] == names[row]


def test_old_labels_may_know_what_the_new_model_is_not_trained_on():
  split = split_training_set(LANDMARKS, 'extended_class', 0.3, 666, 0.6)
  names = [f'class {landmark}' for landmark in LANDMARKS]
  known = split_by_old_labels(split, names, pathlib.Path('labels.txt'))
  assert (known.classes, known.old_classes) == (7, 13)
  assert (known.old_labels >= 0).all()
  order = sorted({f'class {landmark}' for landmark in LANDMARKS})
  assert [order[number] for number in known.old_class] == [
    f'class {landmark}' for landmark in split.landmarks
  ]


def test_a_landmark_of_two_old_classes_is_refused():
  split = _split('extended_class')
  names = ['one'] * len(LANDMARKS)
  names[5] = 'other'
  with pytest.raises(InputError) as refusal:
    split_by_old_labels(split, names, pathlib.Path('labels.txt'))
  assert f'landmark {LANDMARKS[5]} have different labels' in str(refusal.value)
  assert "'one'" in str(refusal.value)
  assert "'other'" in str(refusal.value)


def test_labels_that_are_all_empty_are_refused():
  split = _split('extended_class')
  with pytest.raises(InputError, match='none of the 104 images has a label'):
    split_by_old_labels(split, [''] * len(LANDMARKS), pathlib.Path('x'))
