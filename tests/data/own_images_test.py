import csv
import os
import pathlib
import struct
import zlib

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
from tests.data.pictures import (
  animation,
  encode,
  exif,
  png_broken_inside,
  png_with_chunk,
  quarters,
)

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


def load(out: pathlib.Path, path: str) -> np.ndarray:
  """What an encoder sees of one of the images, 8 pixels wide."""
  [image_id] = [row['id'] for row in read_labels(out) if row['path'] == path]
  sets = gldv2.load_retrieval(out)
  for image_set in (gldv2.load_train(out), sets.gallery, sets.queries):
    if image_id in image_set.ids:
      return image_set.load(image_set.ids.index(image_id), 8)
  raise AssertionError(f'{path} is in none of the sets')


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


@pytest.mark.parametrize('upright', [True, False])
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'WEBP'])
def test_images_are_turned_by_their_orientation_unless_told(
  birds, tmp_path, file_format, upright
):
  halves = np.zeros((64, 64, 3), np.uint8)
  halves[:32] = 255
  encoded = encode(halves, file_format, exif=exif(3))
  (birds / 'owl' / '0.jpg').write_bytes(encoded)
  prepare_own_images(birds, tmp_path / 'out', upright=upright)
  assert gldv2.load_train(tmp_path / 'out').upright == upright
  seen = load(tmp_path / 'out', 'owl/0.jpg')
  first, last = (seen[-1], seen[0]) if upright else (seen[0], seen[-1])
  assert first.min() > 200 > 50 > last.max()


FORMATS = (('JPEG', '0.jpg'), ('PNG', '3.png'), ('TIFF', '4.tif'))


def test_the_portrait_of_a_phone_stands_upright(birds, tmp_path):
  wide = np.zeros((32, 64, 3), np.uint8)
  wide[:, :32] = 255
  for label in CLASSES:
    for file_format, name in FORMATS:
      encoded = encode(wide, file_format, exif=exif(6))
      (birds / label / name).write_bytes(encoded)
  prepare_own_images(birds, tmp_path / 'out')
  for _, name in FORMATS:
    seen = load(tmp_path / 'out', f'owl/{name}')
    assert seen[0].min() > 200 > 50 > seen[-1].max()


@pytest.mark.parametrize(
  ('name', 'encoded', 'wanted'),
  [
    ('16_bits.png', encode(np.full((8, 8), 100 * 257, np.uint16)), 100),
    ('clear.png', encode(Image.new('RGBA', (8, 8), (0, 0, 0, 0))), 255),
    ('clear.gif', encode(Image.new('RGBA', (8, 8), (0, 0, 0, 0)), 'GIF'), 255),
    ('float.tif', encode(np.full((8, 8), 0.2, np.float32), 'TIFF'), 51),
  ],
)
def test_an_image_is_converted_as_it_looks(
  birds, tmp_path, name, encoded, wanted
):
  (birds / 'owl' / name).write_bytes(encoded)
  prepare_own_images(birds, tmp_path / 'out')
  seen = load(tmp_path / 'out', f'owl/{name}')
  np.testing.assert_allclose(seen.astype(int), wanted, atol=2)


def test_a_png_that_says_much_of_itself_is_taken(birds, tmp_path):
  profile = b'big\0\0' + zlib.compress(bytes(2 << 20))
  encoded = png_with_chunk(b'iCCP', profile)
  (birds / 'owl' / 'profile.png').write_bytes(encoded)
  prepare_own_images(birds, tmp_path / 'out')
  seen = load(tmp_path / 'out', 'owl/profile.png')
  assert seen[:3, :3, 0].min() > 200


def test_what_is_broken_inside_is_found_now(birds, tmp_path):
  (birds / 'owl' / 'broken.png').write_bytes(png_broken_inside())
  # Called a JPEG by its name, and broken so that its decoder fails.
  (birds / 'kite' / 'broken.jpg').write_bytes(png_broken_inside())
  pixels = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
  whole = encode(pixels, 'JPEG')
  (birds / 'wren' / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
  with pytest.raises(InputError, match='3 of 23 images') as error:
    prepare_own_images(birds, tmp_path / 'out')
  assert 'owl/broken.png: cannot decode' in str(error.value)
  assert 'wren/cut.jpg: cannot decode' in str(error.value)
  assert 'kite/broken.jpg: cannot decode' in str(error.value)
  assert not list(tmp_path.glob('out*'))


def test_an_error_of_any_decoder_names_the_image(birds, tmp_path, monkeypatch):
  def fail(*_: object, **__: object) -> None:
    raise struct.error('unpack requires a buffer of 4 bytes')

  monkeypatch.setattr('PIL.Image.open', fail)
  with pytest.raises(InputError, match='20 of 20 images') as error:
    prepare_own_images(birds, tmp_path / 'out')
  assert 'crane/0.jpg: cannot decode the image (unpack' in str(error.value)


def test_of_animations_it_is_said_once_that_one_picture_is_taken(
  birds, tmp_path, capsys
):
  for label in CLASSES:
    (birds / label / 'moving.gif').write_bytes(animation())
  prepare_own_images(birds, tmp_path / 'out')
  said = capsys.readouterr().out
  assert said.count('of several pictures') == 1
  assert said.startswith(f'{birds}: 5 of 25 images are of several pictures')
  red, green, blue = load(tmp_path / 'out', 'owl/moving.gif')[4, 4].tolist()
  assert red > 230
  assert max(green, blue) < 30


@pytest.mark.parametrize('size', [(1, 1), (3000, 2)])
@pytest.mark.parametrize('name', ['odd.jpg', 'odd.png'])
def test_suspicious_images_are_counted_and_said(
  birds, tmp_path, capsys, name, size
):
  Image.new('RGB', size).save(birds / 'owl' / name)
  prepare_own_images(birds, tmp_path / 'out')
  said = capsys.readouterr().out
  assert said.startswith(f'{birds}: 1 of 21 images are suspicious')
  assert said.endswith(f'owl/{name}\n')


LATIN1 = os.fsdecode(b'caf\xe9')


def test_names_that_are_no_unicode_work(birds, tmp_path, capsys):
  picture = encode(quarters(), 'JPEG')
  (birds / LATIN1).mkdir()
  for folder in ('owl', LATIN1):
    for suffix in ('.jpg', '.png'):
      (birds / folder / f'{LATIN1}{suffix}').write_bytes(picture)
  Image.new('RGB', (1, 1)).save(birds / LATIN1 / f'{LATIN1}2.png')
  prepare_own_images(birds, tmp_path / 'out', held_out=0.5)
  rows = {row['path']: row for row in read_labels(tmp_path / 'out')}
  row = rows[r'caf\xe9/caf\xe9.jpg']
  assert row['label'] == r'caf\xe9'
  # The first 16 digits of `printf 'caf\xe9/caf\xe9.jpg' | sha256sum`.
  assert row['id'] == '1eeb425ea123d7a7'
  assert load(tmp_path / 'out', r'owl/caf\xe9.jpg').shape == (8, 8, 3)
  # What is printed can be written in UTF-8.
  assert r'caf\xe92.png' in capsys.readouterr().out.encode().decode()


def test_an_image_behind_a_link_is_taken_from_where_it_lies(birds, tmp_path):
  (tmp_path / 'disk').mkdir()
  picture = encode(quarters(), 'JPEG')
  (tmp_path / 'disk' / 'far.jpg').write_bytes(picture)
  (birds / 'owl' / 'more').symlink_to(tmp_path / 'disk')
  (birds / 'owl' / 'near.jpg').symlink_to('more/far.jpg')
  prepare_own_images(birds, tmp_path / 'out')
  paths = [path for path in (tmp_path / 'out').rglob('*.jpg')]
  assert not any(path.is_symlink() for path in paths)
  assert sum(path.read_bytes() == picture for path in paths) == 2
