import csv
import os
import pathlib

import numpy as np
from PIL import Image
import pytest

from advbct_jax.data import gldv2
from advbct_jax.data.own_images import (
  OwnImage,
  prepare_own_images,
  split_images,
)
from advbct_jax.errors import InputError

CLASSES = ('crane', 'dove', 'kite', 'owl', 'wren')


@pytest.fixture
def birds(tmp_path: pathlib.Path) -> pathlib.Path:
  """Five classes of four images, of which the last is a grey PNG."""
  root = tmp_path / 'birds'
  rng = np.random.default_rng(0)
  for label in CLASSES:
    (root / label).mkdir(parents=True)
    for number in range(3):
      pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
      Image.fromarray(pixels).save(root / label / f'{number}.jpg')
    Image.new('L', (8, 8), 128).save(root / label / '3.png')
  return root


def read_labels(out: pathlib.Path) -> list[dict[str, str]]:
  with (out / 'labels.csv').open(newline='') as file:
    return list(csv.DictReader(file))


def images_of(classes: int, each: int) -> list[OwnImage]:
  return [
    OwnImage(f'{landmark:03}/{number}.jpg', f'{landmark:03}', landmark)
    for landmark in range(classes)
    for number in range(each)
  ]


def test_the_result_loads_as_gldv2(birds, tmp_path):
  prepare_own_images(birds, tmp_path / 'out')
  train = gldv2.load_train(tmp_path / 'out')
  retrieval_set = gldv2.load_retrieval(tmp_path / 'out')
  assert (
    len(train),
    len(retrieval_set.gallery),
    len(retrieval_set.queries),
  ) == (*(16, 3, 1),)
  assert len(set(train.labels.tolist())) == 4
  for image_set in (train, retrieval_set.gallery, retrieval_set.queries):
    for index in range(len(image_set)):
      assert image_set.load(index, 8).shape == (8, 8, 3)


def test_labels_csv_leads_back_to_class_and_path(birds, tmp_path):
  prepare_own_images(birds, tmp_path / 'out')
  train = gldv2.load_train(tmp_path / 'out')
  rows = read_labels(tmp_path / 'out')
  assert len(rows) == 20
  by_id = {row['id']: row for row in rows}
  for image_id, landmark in zip(train.ids, train.labels, strict=True):
    row = by_id[image_id]
    assert CLASSES[landmark] == row['label'] == CLASSES[int(row['landmark_id'])]
    assert row['path'].startswith(row['label'] + '/')


def test_jpegs_keep_their_bytes_and_others_become_jpegs(birds, tmp_path):
  prepare_own_images(birds, tmp_path / 'out')
  train = gldv2.load_train(tmp_path / 'out')
  path_of = {row['id']: row['path'] for row in read_labels(tmp_path / 'out')}
  for index, image_id in enumerate(train.ids):
    original = birds / path_of[image_id]
    if original.suffix == '.jpg':
      assert train.images[index] == original.read_bytes()
    else:
      assert train.images[index].startswith(b'\xff\xd8\xff')
      assert train.load(index, 8).tolist() == [[[128] * 3] * 8] * 8


def test_bytes_are_kept_where_the_disk_has_no_links(
  birds, tmp_path, monkeypatch
):
  def refuse(*_: object) -> None:
    raise OSError('Invalid cross-device link')

  monkeypatch.setattr(os, 'link', refuse)
  split = prepare_own_images(birds, tmp_path / 'out')
  train = gldv2.load_train(tmp_path / 'out')
  assert train.images[0] == (birds / split.train[0].path).read_bytes()


def test_an_id_depends_on_the_path_alone():
  # The first 16 digits of `printf owl/0.jpg | sha256sum`.
  assert OwnImage('owl/0.jpg', 'owl', 3).id == '29299dbf1098cf92'
  assert OwnImage('owl/0.jpg', 'bird', 0).id == OwnImage('owl/0.jpg', '', 1).id


def test_a_table_gives_the_same_data_set_as_the_folders(birds, tmp_path):
  table = birds / 'birds.csv'
  with table.open('w') as file:
    file.write('path,label\n')
    for path in sorted(birds.glob('*/*'), reverse=True):
      file.write(f'{path.relative_to(birds)},{path.parent.name}\n')
  prepare_own_images(table, tmp_path / 'from_table')
  table.unlink()
  prepare_own_images(birds, tmp_path / 'from_folders')
  for name in ('train_clean.csv', 'index.csv', 'test.csv', 'labels.csv'):
    assert (tmp_path / 'from_table' / name).read_text() == (
      tmp_path / 'from_folders' / name
    ).read_text()


def test_held_out_classes_are_asked_for_and_never_trained_on():
  split = split_images(images_of(classes=20, each=10), held_out=0.3, seed=1)
  trained = {image.landmark for image in split.train}
  searched = {image.landmark for image in split.index}
  assert len(searched) == 6
  assert {image.landmark for image in split.test} == searched
  assert not trained & searched
  assert (len(split.train), len(split.index), len(split.test)) == (140, 48, 12)


def test_a_class_of_two_has_one_query_and_one_answer():
  split = split_images(images_of(classes=2, each=2), held_out=0.01, seed=0)
  assert (len(split.train), len(split.index), len(split.test)) == (2, 1, 1)


def test_one_class_is_always_left_to_train_on():
  split = split_images(images_of(classes=3, each=2), held_out=0.99, seed=0)
  assert len({image.landmark for image in split.train}) == 1


def test_the_seed_chooses_the_classes():
  images = images_of(classes=50, each=3)
  first = split_images(images, held_out=0.2, seed=0)
  assert split_images(images, held_out=0.2, seed=0) == first
  assert split_images(images, held_out=0.2, seed=1).index != first.index


def test_queries_are_private_and_public_in_turn(birds, tmp_path):
  prepare_own_images(birds, tmp_path / 'out', held_out=0.8)
  truth = gldv2.load_retrieval(tmp_path / 'out').ground_truth
  assert list(truth.usage) == ['Private', 'Public', 'Private', 'Public']
  assert [len(relevant) for relevant in truth.relevant] == [3, 3, 3, 3]


def test_relevant_images_are_of_the_class_of_the_query(birds, tmp_path):
  prepare_own_images(birds, tmp_path / 'out', held_out=0.8)
  retrieval_set = gldv2.load_retrieval(tmp_path / 'out')
  label_of = {row['id']: row['label'] for row in read_labels(tmp_path / 'out')}
  for query, relevant in zip(
    retrieval_set.queries.ids, retrieval_set.ground_truth.relevant, strict=True
  ):
    answers = {label_of[retrieval_set.gallery.ids[at]] for at in relevant}
    assert answers == {label_of[query]}


@pytest.mark.parametrize('held_out', [0, 1, -0.2, 20, float('nan')])
def test_a_part_out_of_range_is_refused(held_out):
  with pytest.raises(InputError, match=f'found {held_out}, wanted a part'):
    split_images(images_of(classes=3, each=2), held_out, seed=0)


def test_a_single_class_is_refused():
  with pytest.raises(InputError, match='found 1 class, wanted two or more'):
    split_images(images_of(classes=1, each=5), held_out=0.2, seed=0)


def test_unreadable_images_are_named_and_nothing_is_left(birds, tmp_path):
  (birds / 'owl' / '1.jpg').write_bytes(b'no image')
  whole = (birds / 'kite' / '3.png').read_bytes()
  (birds / 'kite' / '3.png').write_bytes(whole[: len(whole) // 2])
  with pytest.raises(InputError, match='2 of 20 images') as error:
    prepare_own_images(birds, tmp_path / 'out')
  assert 'owl/1.jpg' in str(error.value)
  assert 'kite/3.png' in str(error.value)
  assert not list(tmp_path.glob('out*'))


def test_an_existing_folder_is_not_written_over(birds, tmp_path):
  (tmp_path / 'out').mkdir()
  with pytest.raises(InputError, match='out: is there already'):
    prepare_own_images(birds, tmp_path / 'out')
