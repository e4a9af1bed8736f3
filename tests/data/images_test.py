import io
import pathlib

import numpy as np
from PIL import Image
import pytest

from advbct_jax.data.images import (
  ImageFiles,
  ImageSet,
  check_images,
  decode_image,
  digest_ids,
  load_all,
)
from advbct_jax.errors import InputError


def encode(pixels: np.ndarray, file_format: str = 'PNG') -> bytes:
  encoded = io.BytesIO()
  Image.fromarray(pixels).save(encoded, file_format)
  return encoded.getvalue()


def quarters() -> np.ndarray:
  """An 8×8 image: red, green above blue, white."""
  pixels = np.zeros((8, 8, 3), np.uint8)
  pixels[:4, :4] = (255, 0, 0)
  pixels[:4, 4:] = (0, 255, 0)
  pixels[4:, :4] = (0, 0, 255)
  pixels[4:, 4:] = (255, 255, 255)
  return pixels


@pytest.fixture
def image_set(tmp_path: pathlib.Path) -> ImageSet:
  names = ['a.png', 'b.png', 'c.jpg']
  for name in names:
    file_format = 'JPEG' if name.endswith('.jpg') else 'PNG'
    (tmp_path / name).write_bytes(encode(quarters(), file_format))
  return ImageSet('corners', names, ImageFiles(tmp_path, names))


def test_an_image_of_the_wanted_size_keeps_its_pixels():
  np.testing.assert_array_equal(decode_image(encode(quarters()), 8), quarters())


def test_an_oblong_image_is_squashed_to_a_square():
  wide = np.concatenate([quarters(), quarters()], axis=1)
  decoded = decode_image(encode(wide), 8)
  assert decoded.shape == (8, 8, 3)
  assert decoded[0].tolist()[0] == [255, 0, 0]
  assert decoded[0].tolist()[-1] == [0, 255, 0]


def test_shrinking_averages_over_the_pixels_it_merges():
  columns = np.zeros((8, 8, 3), np.uint8)
  columns[:, ::2] = 200
  assert abs(int(decode_image(encode(columns), 2)[0, 0, 0]) - 100) <= 8


def test_a_grey_image_becomes_three_equal_channels():
  grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
  decoded = decode_image(encode(grey), 8)
  np.testing.assert_array_equal(decoded, np.stack([grey] * 3, axis=-1))


def test_a_box_is_cut_out_before_resizing():
  box = np.array([4, 0, 8, 4], np.float32)
  decoded = decode_image(encode(quarters()), 2, box)
  assert decoded.tolist() == [[[0, 255, 0]] * 2] * 2


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


def test_load_all_keeps_the_order(image_set):
  decoded = load_all(image_set, 8)
  assert decoded.shape == (3, 8, 8, 3)
  assert decoded.dtype == np.uint8
  for index in range(3):
    np.testing.assert_array_equal(decoded[index], image_set.load(index, 8))


def test_check_images_accepts_whole_images(image_set):
  check_images(image_set)


def test_check_images_names_every_unusable_image(image_set, tmp_path):
  (tmp_path / 'a.png').unlink()
  whole = (tmp_path / 'c.jpg').read_bytes()
  (tmp_path / 'c.jpg').write_bytes(whole[:-100])
  with pytest.raises(InputError) as error:
    check_images(image_set)
  message = str(error.value)
  assert message.startswith('corners: 2 of 3 images cannot be used')
  assert 'a.png: cannot read' in message
  assert 'c.jpg: cannot decode' in message
  assert 'b.png' not in message


def test_check_images_accepts_padding_behind_a_whole_image(image_set, tmp_path):
  with (tmp_path / 'c.jpg').open('ab') as file:
    file.write(b'\0' * 16)
  check_images(image_set)


def test_check_images_names_ten_and_counts_all(tmp_path):
  names = [f'{number}.jpg' for number in range(12)]
  image_set = ImageSet('gone', names, ImageFiles(tmp_path, names))
  with pytest.raises(InputError, match='12 of 12') as error:
    check_images(image_set)
  assert str(error.value).count('cannot read') == 10
  assert str(error.value).endswith('…')


class Unreadable:
  """Encoded images that are no files."""

  def __len__(self) -> int:
    return 1

  def __getitem__(self, index: int) -> bytes:
    raise AssertionError(f'image {index} was read')

  def where(self, index: int) -> str:
    return f'record {index}'


def test_check_images_leaves_records_alone():
  check_images(ImageSet('records', ['a'], Unreadable()))


def test_the_digest_depends_on_ids_and_their_order():
  assert digest_ids(['a', 'b']) == digest_ids(('a', 'b'))
  assert digest_ids(['a', 'b']) != digest_ids(['b', 'a'])
  assert digest_ids(['ab']) != digest_ids(['a', 'b'])
