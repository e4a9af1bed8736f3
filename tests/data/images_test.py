import pathlib

import numpy as np
import pytest

from advbct_jax.data.images import (
  ImageFiles,
  ImageSet,
  digest_ids,
  load_all,
)
from advbct_jax.errors import InputError
from tests.data.pictures import encode, exif, png_broken_inside, quarters


@pytest.fixture
def image_set(tmp_path: pathlib.Path) -> ImageSet:
  names = ['a.png', 'b.png', 'c.jpg']
  for name in names:
    file_format = 'JPEG' if name.endswith('.jpg') else 'PNG'
    (tmp_path / name).write_bytes(encode(quarters(), file_format))
  return ImageSet('corners', names, ImageFiles(tmp_path, names))


def test_each_image_of_a_set_is_cropped_to_its_own_box(tmp_path):
  (tmp_path / 'a.png').write_bytes(encode(quarters()))
  boxes = np.array([[0, 0, 4, 4], [0, 4, 4, 8]], np.float32)
  files = ImageFiles(tmp_path, ['a.png', 'a.png'])
  image_set = ImageSet('cropped', ['red', 'blue'], files, boxes=boxes)
  assert image_set.load(0, 1).tolist() == [[[255, 0, 0]]]
  assert image_set.load(1, 1).tolist() == [[[0, 0, 255]]]


def test_a_missing_image_is_named(image_set, tmp_path):
  (tmp_path / 'b.png').unlink()
  with pytest.raises(InputError, match=r'b\.png: cannot read .*No such file'):
    image_set.load(1, 8)


@pytest.mark.parametrize(('index', 'name'), [(0, 'a.png'), (2, 'c.jpg')])
def test_a_truncated_image_is_named(image_set, tmp_path, index, name):
  whole = (tmp_path / name).read_bytes()
  (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
  with pytest.raises(InputError, match=f'{name}: cannot decode'):
    image_set.load(index, 8)


def test_a_file_that_is_no_image_is_named(image_set, tmp_path):
  (tmp_path / 'a.png').write_text('<html>404</html>')
  with pytest.raises(InputError, match=r'a\.png: cannot decode'):
    image_set.load(0, 8)


def test_an_image_broken_inside_is_named(image_set, tmp_path):
  (tmp_path / 'a.png').write_bytes(png_broken_inside())
  with pytest.raises(InputError, match=r'a\.png: cannot decode'):
    image_set.load(0, 8)


def test_an_error_of_any_decoder_names_the_image(image_set, monkeypatch):
  def raise_one(*_: object, **__: object) -> None:
    raise ValueError('Decompressed data too large')

  monkeypatch.setattr('PIL.Image.open', raise_one)
  with pytest.raises(InputError, match=r'b\.png: cannot decode .*too large'):
    image_set.load(1, 8)


def test_images_are_turned_only_in_a_set_that_is_upright(tmp_path):
  (tmp_path / 'a.png').write_bytes(encode(quarters(), exif=exif(3)))
  files = ImageFiles(tmp_path, ['a.png'])
  as_stored = ImageSet('published', ['a'], files).load(0, 8)
  upright = ImageSet('own', ['a'], files, upright=True).load(0, 8)
  np.testing.assert_array_equal(as_stored, quarters())
  np.testing.assert_array_equal(upright, quarters()[::-1, ::-1])


def test_load_all_keeps_the_order(image_set):
  decoded = load_all(image_set, 8)
  assert decoded.shape == (3, 8, 8, 3)
  assert decoded.dtype == np.uint8
  for index in range(3):
    np.testing.assert_array_equal(decoded[index], image_set.load(index, 8))


def test_the_digest_depends_on_ids_and_their_order():
  assert digest_ids(['a', 'b']) == digest_ids(('a', 'b'))
  assert digest_ids(['a', 'b']) != digest_ids(['b', 'a'])
  assert digest_ids(['ab']) != digest_ids(['a', 'b'])
