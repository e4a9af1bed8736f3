import pathlib

import numpy as np
from PIL import Image
import pytest

from advbct_jax.data.image_checks import check_images
from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.errors import InputError
from tests.data.pictures import animation, encode, png_broken_inside, quarters


@pytest.fixture
def image_set(tmp_path: pathlib.Path) -> ImageSet:
  names = ['a.png', 'b.png', 'c.jpg']
  for name in names:
    file_format = 'JPEG' if name.endswith('.jpg') else 'PNG'
    (tmp_path / name).write_bytes(encode(quarters(), file_format))
  return ImageSet('corners', names, ImageFiles(tmp_path, names))


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


def _check(folder: pathlib.Path, **pictures: bytes) -> None:
  names = list(pictures)
  for name, encoded in pictures.items():
    (folder / name).write_bytes(encoded)
  check_images(ImageSet('few', names, ImageFiles(folder, names)))


def test_check_images_finds_what_is_broken_inside(tmp_path):
  with pytest.raises(InputError, match='1 of 2 images') as error:
    _check(tmp_path, whole=encode(quarters()), broken=png_broken_inside())
  assert 'broken: cannot decode' in str(error.value)


@pytest.mark.parametrize('size', [(1, 1), (3000, 2), (2, 3000), (400, 20)])
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG'])
def test_check_images_says_which_are_too_small_or_long(
  tmp_path, capsys, file_format, size
):
  odd = encode(Image.new('RGB', size), file_format)
  _check(tmp_path, fine=encode(Image.new('RGB', (64, 8))), odd=odd)
  said = capsys.readouterr().out
  assert said.startswith('few: 1 of 2 images are suspicious: under 8 pixels')
  assert said.endswith(f': {tmp_path / "odd"}\n')


def test_check_images_reads_but_the_end_of_a_large_jpeg(tmp_path, monkeypatch):
  pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
  encoded = encode(pixels, 'JPEG')
  assert len(encoded) > 2**14
  monkeypatch.setattr('PIL.Image.open', None)
  _check(tmp_path, large=encoded)


@pytest.mark.parametrize('file_format', ['GIF', 'PNG', 'WEBP', 'TIFF'])
def test_check_images_says_that_of_animations_one_picture_is_taken(
  tmp_path, capsys, file_format
):
  _check(tmp_path, **dict.fromkeys('abcde', animation(file_format)))
  [said] = capsys.readouterr().out.splitlines()
  assert said.startswith('few: 5 of 5 images are of several pictures')
  assert said.endswith(f'{tmp_path / "c"}, …')


def test_the_preview_in_a_camera_s_jpeg_is_no_second_picture(tmp_path, capsys):
  photo, preview = Image.new('RGB', (64, 48)), Image.new('RGB', (16, 12))
  _check(
    tmp_path,
    mpo=encode(photo, 'MPO', save_all=True, append_images=[preview]),
  )
  assert capsys.readouterr().out == ''
