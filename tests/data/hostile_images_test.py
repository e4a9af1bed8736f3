"""Files called .jpg that are no good picture, or none of the usual kind."""

import os
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image
import pytest

from advbct_jax.data.data_check import check_data
from advbct_jax.data.decoding import (
  MAX_PIXELS,
  decode_image,
  refuse_undecodable,
)
from advbct_jax.data.image_checks import check_images
from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.errors import InputError
from tests.data.pictures import (
  animation,
  encode,
  jpeg_that_claims,
  png_that_claims,
  quarters,
)

_GIF_OF_NOTHING = b'GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\x02\0;'
_NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def _in_many_scans() -> bytes:
  """A progressive JPEG whose last scan comes again and again."""
  encoded = encode(quarters(), 'JPEG', progressive=True)
  start = encoded.rindex(b'\xff\xda')
  return encoded[:start] + encoded[start:-2] * 200 + encoded[-2:]


def _png_with(kind: bytes, said: bytes) -> bytes:
  """A PNG with a part behind its header."""
  encoded = encode(quarters())
  part = struct.pack('>I', len(said)) + kind + said
  part += struct.pack('>I', zlib.crc32(kind + said))
  return encoded[:33] + part + encoded[33:]


_UNPACKS_TO_MUCH = b'a\0\0' + zlib.compress(bytes(65 * 2**20), 9)

REFUSED = {
  'many_scans': (_in_many_scans(), 'it comes in more than 200 scans'),
  'text_bomb': (_png_with(b'zTXt', _UNPACKS_TO_MUCH), 'data too large'),
  'profile_bomb': (_png_with(b'iCCP', _UNPACKS_TO_MUCH), 'data too large'),
  'empty': (b'', 'the file is empty'),
  'page': (b'<html>404 Not Found</html>', 'no format of pictures'),
  'program': (b'\x7fELF' + bytes(100), 'no format of pictures'),
  # Pillow gives it to Ghostscript, which runs what is in it.
  'postscript': (encode(quarters(), 'EPS'), 'no format of pictures'),
  'no_width': (png_that_claims(0, 8), 'no format of pictures'),
  'no_size': (_GIF_OF_NOTHING, 'no format of pictures'),
  'bomb_png': (
    png_that_claims(60_000, 60_000),
    'more than twice 89478485 pixels',
  ),
  'bomb_jpeg': (
    jpeg_that_claims(65_000, 65_000),
    'more than twice 89478485 pixels',
  ),
  'bomb_ppm': (b'P6 100000 100000 255\n', 'more than twice 89478485 pixels'),
  'large': (png_that_claims(9_500, 9_500), '9500 × 9500 pixels, more than'),
  'half_a_jpeg': (encode(_NOISE, 'JPEG')[:2000], 'truncated'),
  'half_a_png': (encode(_NOISE)[:5000], 'truncated'),
  'half_a_header': (encode(_NOISE, 'JPEG')[:10], 'Truncated'),
}
TAKEN = {
  # As a phone puts it behind a photograph; its bytes look like scans.
  'film_behind': encode(np.full((8, 8, 3), 255, np.uint8), 'JPEG')
  + b'\xff\xda' * 999,
  'cmyk': encode(Image.new('CMYK', (8, 8), (0, 0, 0, 0)), 'JPEG'),
  'grey_of_16_bits': encode(np.full((8, 8), 65535, np.uint16)),
  'animated': encode(
    Image.new('RGB', (8, 8), 'white'),
    'GIF',
    save_all=True,
    append_images=[Image.new('RGB', (8, 8), 'black')],
  ),
}


def _image_set(folder: pathlib.Path, **images: bytes) -> ImageSet:
  for name, encoded in images.items():
    (folder / f'{name}.jpg').write_bytes(encoded)
  files = ImageFiles(folder, [f'{name}.jpg' for name in images])
  return ImageSet('hostile', list(images), files)


@pytest.mark.filterwarnings('ignore:Image size')
@pytest.mark.parametrize('name', REFUSED)
def test_each_is_refused_in_one_line(tmp_path, name):
  encoded, reason = REFUSED[name]
  image_set = _image_set(tmp_path, **{name: encoded})
  with pytest.raises(InputError, match=reason) as refused:
    image_set.load(0, 8)
  assert str(refused.value).startswith(f'{tmp_path / name}.jpg: cannot decode')
  assert '\n' not in str(refused.value)
  with pytest.raises(InputError, match='1 of 1 images cannot be used'):
    check_images(image_set)
  [found] = check_data({'train': image_set})
  assert (found.id, found.problem) == (name, 'unreadable')
  assert found.detail == str(refused.value)


@pytest.mark.filterwarnings('ignore:Image size')
@pytest.mark.parametrize('name', ['bomb_png', 'bomb_jpeg', 'bomb_ppm', 'large'])
def test_of_too_many_pixels_none_is_decoded(tmp_path, monkeypatch, name):
  monkeypatch.setattr('PIL.ImageFile.ImageFile.load', None)
  encoded, reason = REFUSED[name]
  image_set = _image_set(tmp_path, **{name: encoded})
  with pytest.raises(InputError, match=reason) as refused:
    image_set.load(0, 8)
  assert 'Shrink it, leave it out, or allow more' in str(refused.value)


@pytest.mark.parametrize('name', TAKEN)
def test_each_unusual_picture_is_taken(tmp_path, name):
  image_set = _image_set(tmp_path, **{name: TAKEN[name]})
  assert image_set.load(0, 8).tolist() == [[[255] * 3] * 8] * 8
  assert check_data({'train': image_set}) == []


def test_what_is_no_file_keeps_nobody_waiting(tmp_path):
  os.mkfifo(tmp_path / 'pipe.jpg')
  (tmp_path / 'endless.jpg').symlink_to('/dev/zero')
  for name in ('pipe.jpg', 'endless.jpg'):
    image_set = ImageSet('few', [name], ImageFiles(tmp_path, [name]))
    with pytest.raises(InputError, match=rf'{name}: found no file'):
      image_set.load(0, 8)


def test_a_file_beyond_all_measure_is_not_read(tmp_path):
  with (tmp_path / 'sparse.jpg').open('wb') as file:
    file.truncate(2**31 + 1)
  image_set = ImageSet('few', ['a'], ImageFiles(tmp_path, ['sparse.jpg']))
  with pytest.raises(InputError, match='or one of more than 2 GiB'):
    image_set.load(0, 8)


@pytest.mark.parametrize('max_pixels', [63, 64])
def test_a_set_says_how_many_pixels_an_image_may_have(tmp_path, max_pixels):
  files = _image_set(tmp_path, a=encode(quarters())).images
  image_set = ImageSet('few', ['a'], files, max_pixels=max_pixels)
  if max_pixels == 64:
    assert image_set.load(0, 8).tolist() == quarters().tolist()
    return
  with pytest.raises(InputError, match='8 × 8 pixels, more than 63') as refused:
    image_set.load(0, 8)
  assert 'config.data.max_pixels' in str(refused.value)


@pytest.mark.filterwarnings('ignore:Image size')
def test_more_pixels_than_pillow_takes_may_be_allowed(monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 20)
  with (
    pytest.raises(InputError, match='more than twice 20 pixels'),
    refuse_undecodable('a.png'),
  ):
    decode_image(encode(quarters()), 8, max_pixels=20)
  decoded = decode_image(encode(quarters()), 8, max_pixels=MAX_PIXELS)
  assert decoded.tolist() == quarters().tolist()


def test_of_an_animation_a_check_sees_the_first_picture(tmp_path):
  still = encode(Image.new('RGB', (16, 16), 'red'), 'GIF')
  image_set = _image_set(tmp_path, still=still, moving=animation())
  [found] = check_data({'train': image_set}, distance=0)
  assert (found.id, found.problem) == ('moving', 'near_duplicate')
