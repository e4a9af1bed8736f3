"""Tests of the drawn landmarks."""

import csv
import json
import pickle
import re

import numpy as np
from PIL import Image
import pytest

from advbct_jax.commands.prepare import main
from advbct_jax.drawn_landmarks import buildings, data_set
from advbct_jax.errors import InputError

SMALL = {
  'classes': 3,
  'images_per_class': 5,
  'held_out_classes': 2,
  'image_size': 32,
}
EVEN = data_set.Difficulty(max_angle=0, light=0, occlusion=0, framing=0)


class PlainUnpickler(pickle.Unpickler):
  def find_class(self, module, name):
    raise AssertionError(f'{module}.{name} is not a plain type')


def read_rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def read_ground_truth(root):
  with (root / 'gnd_landmarks.pkl').open('rb') as file:
    return PlainUnpickler(file).load()


def read_image(root, split, image_id):
  path = root / split / '/'.join(image_id[:3]) / f'{image_id}.jpg'
  with Image.open(path) as image:
    return np.asarray(image.convert('RGB'), np.float32)


def contents(root):
  return {
    path.relative_to(root).as_posix(): path.read_bytes()
    for path in root.rglob('*')
    if path.is_file()
  }


def pixel_precision(root):
  """Mean average precision of the pixels at 8×8, over the whole gallery."""

  def describe(split):
    rows = [
      row for row in read_rows(root / 'views.csv') if row['split'] == split
    ]
    images = np.stack([read_image(root, split, row['id']) for row in rows])
    count, size = len(images), images.shape[1] // 8
    pixels = images.reshape(count, 8, size, 8, size, 3).mean((2, 4))
    pixels = pixels.reshape(count, -1)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    return pixels, np.array([row['landmark_id'] for row in rows])

  queries, query_labels = describe('test')
  gallery, gallery_labels = describe('index')
  precisions = []
  for similarity, label in zip(queries @ gallery.T, query_labels, strict=True):
    hits = gallery_labels[np.argsort(-similarity)] == label
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    precisions.append(precision[hits].mean())
  return 100 * np.mean(precisions)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
  root = tmp_path_factory.mktemp('drawn') / 'landmarks'
  data_set.draw_landmarks(root, **SMALL)
  return root


def test_the_lists_have_the_google_landmarks_layout(drawn):
  train = read_rows(drawn / 'train_clean.csv')
  assert list(train[0]) == ['landmark_id', 'images']
  assert [len(row['images'].split()) for row in train] == [5, 5, 5]
  assert [row['landmark_id'] for row in train] == ['3', '20', '37']
  index = [row['id'] for row in read_rows(drawn / 'index.csv')]
  test = [row['id'] for row in read_rows(drawn / 'test.csv')]
  assert (len(index), len(test)) == (8, 2)
  solution = read_rows(drawn / 'retrieval_solution_v2.1.csv')
  assert list(solution[0]) == ['id', 'images', 'Usage']
  assert [row['id'] for row in solution] == test
  assert [row['images'].split() for row in solution] == [index[:4], index[4:]]
  ids = {'train': ' '.join(row['images'] for row in train).split()}
  ids |= {'index': index, 'test': test}
  every = [image_id for listed in ids.values() for image_id in listed]
  assert len(set(every)) == 25
  assert all(re.fullmatch('[0-9a-f]{16}', image_id) for image_id in every)
  for split, listed in ids.items():
    for image_id in listed:
      assert read_image(drawn, split, image_id).shape == (32, 32, 3)


def test_the_first_query_of_each_landmark_is_public_the_rest_private(tmp_path):
  root = tmp_path / 'landmarks'
  data_set.draw_landmarks(root, **SMALL | {'images_per_class': 12})
  solution = read_rows(root / 'retrieval_solution_v2.1.csv')
  usage = [row['Usage'] for row in solution]
  assert usage == ['Public', 'Private', 'Private'] * 2


def test_index_and_test_show_no_training_landmark(drawn):
  shown = {'train': set(), 'index': set(), 'test': set()}
  for row in read_rows(drawn / 'views.csv'):
    shown[row['split']].add(row['landmark_id'])
  assert shown['index'] == shown['test'] == {'54', '71'}
  assert shown['train'] == {'3', '20', '37'}


def test_the_revisited_ground_truth_is_plain_and_names_the_same_images(drawn):
  truth = read_ground_truth(drawn)
  index = [row['id'] for row in read_rows(drawn / 'index.csv')]
  test = [row['id'] for row in read_rows(drawn / 'test.csv')]
  assert truth['imlist'] == index
  assert truth['qimlist'] == test
  for split, ids in (('index', index), ('test', test)):
    for image_id in ids:
      copy = drawn / 'landmarks' / 'jpg' / f'{image_id}.jpg'
      with Image.open(copy) as image:
        same = np.asarray(image) == read_image(drawn, split, image_id)
      assert same.all()


def test_gallery_images_are_graded_by_angle_and_occlusion(tmp_path):
  root = tmp_path / 'landmarks'
  difficulty = data_set.Difficulty(max_angle=40, occlusion=0.8)
  data_set.draw_landmarks(
    root,
    **SMALL | {'images_per_class': 24, 'held_out_classes': 3},
    difficulty=difficulty,
  )
  views = {row['id']: row for row in read_rows(root / 'views.csv')}
  truth = read_ground_truth(root)
  grades = []
  for query_id, graded in zip(truth['qimlist'], truth['gnd'], strict=True):
    query = views[query_id]
    expected = {'easy': [], 'hard': [], 'junk': []}
    for position, image_id in enumerate(truth['imlist']):
      view = views[image_id]
      if view['landmark_id'] != query['landmark_id']:
        continue
      off = abs(float(view['angle']) - float(query['angle']))
      grade = 'easy' if off <= 20 else 'hard'
      grade = 'junk' if float(view['hidden']) > 0.4 else grade
      expected[grade].append(position)
      grades.append(grade)
    assert {grade: graded[grade] for grade in expected} == expected
  assert set(grades) == {'easy', 'hard', 'junk'}


def test_a_query_box_encloses_its_landmark(tmp_path):
  root = tmp_path / 'landmarks'
  data_set.draw_landmarks(root, **SMALL, difficulty=EVEN)
  for number, graded in enumerate(read_ground_truth(root)['gnd']):
    rng = np.random.default_rng([0, data_set._HELD_OUT, number])
    front = buildings.draw_landmark(rng).front
    # Seen from the front, façades fill 1.15 of the image, about its middle.
    edges = np.array(front.getchannel('A').getbbox()) / front.width
    expected = 32 * (0.5 + 1.15 * (edges - 0.5)).clip(0, 1)
    np.testing.assert_allclose(graded['bbx'], expected, atol=0.75)


def test_the_same_parameters_draw_the_same_bytes(drawn, tmp_path):
  again = tmp_path / 'landmarks'
  data_set.draw_landmarks(again, **SMALL)
  assert contents(again) == contents(drawn)


def test_another_seed_draws_other_landmarks(drawn, tmp_path):
  other = tmp_path / 'landmarks'
  data_set.draw_landmarks(other, **SMALL, seed=1)
  images = [
    {content for path, content in contents(root).items() if '.jpg' in path}
    for root in (drawn, other)
  ]
  assert not images[0] & images[1]


def test_more_classes_leave_the_other_images_as_they_are(drawn, tmp_path):
  more = tmp_path / 'landmarks'
  data_set.draw_landmarks(more, **SMALL | {'classes': 4})
  few, many = contents(drawn), contents(more)
  images = {path for path in few if path.endswith('.jpg')}
  assert len(images) == 35  # 25, and the held-out ones twice
  assert all(few[path] == many[path] for path in images)


def test_angles_fill_the_range_and_stay_within_it(tmp_path):
  root = tmp_path / 'landmarks'
  data_set.draw_landmarks(
    root,
    **SMALL | {'images_per_class': 20},
    difficulty=data_set.Difficulty(max_angle=30),
  )
  angles = [float(row['angle']) for row in read_rows(root / 'views.csv')]
  assert -30 <= min(angles) < -25
  assert 25 < max(angles) <= 30


def test_occluders_hide_only_where_occlusion_is_wanted(drawn, tmp_path):
  root = tmp_path / 'landmarks'
  data_set.draw_landmarks(root, **SMALL, difficulty=EVEN)
  clear = [float(row['hidden']) for row in read_rows(root / 'views.csv')]
  assert set(clear) == {0.0}
  hidden = [float(row['hidden']) for row in read_rows(drawn / 'views.csv')]
  assert 0.1 < np.mean(hidden) < 0.4


@pytest.mark.parametrize(('light', 'low', 'high'), [(0, 0, 8), (1, 20, 90)])
def test_light_alone_changes_a_wall_that_nothing_else_changes(
  tmp_path, light, low, high
):
  root = tmp_path / 'landmarks'
  difficulty = data_set.Difficulty(0, light, 0, 0)
  data_set.draw_landmarks(root, **SMALL, difficulty=difficulty)
  spreads = []
  for row in read_rows(root / 'train_clean.csv'):
    walls = [
      read_image(root, 'train', image_id)[18:26, 12:20]
      for image_id in row['images'].split()
    ]
    spreads.append(np.std(walls, axis=0).mean())
  assert low <= np.mean(spreads) < high


def test_without_light_every_sky_is_overcast(tmp_path):
  root = tmp_path / 'landmarks'
  data_set.draw_landmarks(root, **SMALL, difficulty=EVEN)
  for row in read_rows(root / 'views.csv'):
    red, _, blue = np.median(read_image(root, row['split'], row['id'])[0], 0)
    assert abs(red - blue) < 20


def test_pixels_find_a_landmark_only_where_nothing_disturbs_them(tmp_path):
  many = {'images_per_class': 12, 'held_out_classes': 16, 'image_size': 48}
  data_set.draw_landmarks(tmp_path / 'even', **SMALL | many, difficulty=EVEN)
  data_set.draw_landmarks(tmp_path / 'hard', **SMALL | many)
  assert pixel_precision(tmp_path / 'even') > 60
  assert pixel_precision(tmp_path / 'hard') < 15


def test_a_finished_folder_is_not_drawn_again(drawn, monkeypatch):
  def refuse(*_):
    raise AssertionError('drawn again')

  monkeypatch.setattr(data_set, '_draw_images', refuse)
  data_set.draw_landmarks(str(drawn), **SMALL)


def test_the_parameters_are_kept_beside_the_images(drawn):
  parameters = json.loads((drawn / 'landmarks.json').read_text())
  assert parameters['classes'] == 3
  assert parameters['difficulty']['max_angle'] == 50


def test_a_folder_of_other_parameters_is_refused(drawn):
  with pytest.raises(InputError, match=r'seed 0 \(wanted 5\).*Delete'):
    data_set.draw_landmarks(drawn, **SMALL, seed=5)


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  with pytest.raises(InputError, match=r'something else.*new folder'):
    data_set.draw_landmarks(tmp_path, **SMALL)
  assert contents(tmp_path) == {'notes.txt': b'mine'}


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
  def interrupt(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(data_set, '_write_revisited', interrupt)
  with pytest.raises(KeyboardInterrupt):
    data_set.draw_landmarks(tmp_path / 'landmarks', **SMALL)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'classes': 0}, 'classes is 0; 1 or more'),
    ({'images_per_class': 1}, 'images_per_class is 1; 2 or more'),
    ({'seed': -1}, 'seed is -1; 0 or more'),
    (
      {'difficulty': data_set.Difficulty(max_angle=80)},
      'max_angle is 80; 0 to 75',
    ),
    (
      {'difficulty': data_set.Difficulty(occlusion=-0.5)},
      'occlusion is -0.5; 0 to 1',
    ),
  ],
)
def test_parameters_out_of_range_are_refused(tmp_path, changed, message):
  with pytest.raises(InputError, match=re.escape(message)):
    data_set.draw_landmarks(tmp_path / 'landmarks', **SMALL | changed)
  assert not list(tmp_path.iterdir())


def test_a_sheet_has_a_row_a_landmark_and_runs_from_frontal_to_oblique(drawn):
  sheet = data_set.contact_sheet(drawn, classes=2, views=3)
  assert sheet.size == (3 * 66 - 2, 2 * 66 - 2)
  second = [
    row for row in read_rows(drawn / 'views.csv') if row['landmark_id'] == '20'
  ]
  second.sort(key=lambda row: abs(float(row['angle'])))
  for column, row in enumerate([second[0], second[2], second[4]]):
    tile = sheet.crop((66 * column, 66, 66 * column + 64, 130))
    small = np.asarray(tile.resize((32, 32), Image.Resampling.BOX), np.float32)
    assert abs(small - read_image(drawn, 'train', row['id'])).mean() < 4


@pytest.mark.parametrize(('classes', 'views'), [(4, 5), (3, 6), (0, 5)])
def test_a_sheet_of_more_than_there_is_is_refused(drawn, classes, views):
  with pytest.raises(InputError, match='there are 3 with 5'):
    data_set.contact_sheet(drawn, classes=classes, views=views)


def test_a_sheet_of_another_folder_is_refused(tmp_path):
  with pytest.raises(InputError, match='Draw them first'):
    data_set.contact_sheet(tmp_path)


def test_the_command_draws_and_makes_a_sheet(tmp_path, monkeypatch):
  draw = data_set.draw_landmarks

  def draw_few(root):
    draw(
      root, classes=8, images_per_class=10, held_out_classes=1, image_size=16
    )

  monkeypatch.setattr(data_set, 'draw_landmarks', draw_few)
  root, sheet = tmp_path / 'landmarks', tmp_path / 'sheet.png'
  main(['landmarks', str(root), f'--sheet={sheet}'])
  with Image.open(sheet) as image:
    assert image.size == (10 * 34 - 2, 8 * 34 - 2)


def test_the_command_ends_with_the_message_of_an_error(tmp_path, capsys):
  (tmp_path / 'notes.txt').write_text('mine')
  with pytest.raises(SystemExit, match='2'):
    main(['landmarks', str(tmp_path)])
  assert 'something else lies here' in capsys.readouterr().err
