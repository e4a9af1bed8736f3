import io
import struct
import zlib

import numpy as np
from PIL import Image
import pytest

from advbct_jax.data.decoding import (
  RESAMPLINGS,
  decode_image,
  encode_jpeg,
  refuse_undecodable,
)
from advbct_jax.errors import InputError
from tests.data.pictures import (
  ORIENTATION,
  animation,
  encode,
  exif,
  png_with_chunk,
  quarters,
)

GREY = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
WHITE = [[[255, 255, 255]] * 8] * 8


def test_an_image_of_the_wanted_size_keeps_its_pixels():
  np.testing.assert_array_equal(decode_image(encode(quarters()), 8), quarters())


def test_an_oblong_image_is_squashed_to_a_square():
  wide = np.concatenate([quarters(), quarters()], axis=1)
  decoded = decode_image(encode(wide), 8)
  assert decoded.shape == (8, 8, 3)
  assert decoded[0].tolist()[0] == [255, 0, 0]
  assert decoded[0].tolist()[-1] == [0, 255, 0]


@pytest.mark.parametrize('size', [5, 13])
@pytest.mark.parametrize('resampling', RESAMPLINGS)
def test_images_are_squashed_by_the_filter_of_pillow_that_is_asked_for(
  resampling, size
):
  picture = Image.fromarray(quarters())
  wanted = picture.resize((size, size), Image.Resampling[resampling.upper()])
  decoded = decode_image(encode(quarters()), size, resampling=resampling)
  np.testing.assert_array_equal(decoded, np.asarray(wanted))
  if resampling == 'bilinear':
    np.testing.assert_array_equal(
      decode_image(encode(quarters()), size), wanted
    )


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


def _turned(orientation: int) -> np.ndarray:
  """The quarters as a viewer shows them, by EXIF's own table."""
  pixels = quarters()
  return {
    1: pixels,
    2: pixels[:, ::-1],
    3: pixels[::-1, ::-1],
    4: pixels[::-1],
    5: pixels.transpose(1, 0, 2),
    6: np.rot90(pixels, -1),
    7: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(pixels),
  }[orientation]


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('file_format', ['PNG', 'TIFF', 'WEBP'])
def test_an_image_is_turned_by_its_orientation(file_format, orientation):
  options = {'lossless': True} if file_format == 'WEBP' else {}
  encoded = encode(quarters(), file_format, exif=exif(orientation), **options)
  np.testing.assert_array_equal(
    decode_image(encoded, 8, upright=True), _turned(orientation)
  )


def test_a_jpeg_of_a_phone_held_upright_is_turned():
  wide = np.zeros((32, 64, 3), np.uint8)
  wide[:, :32] = 255
  encoded = encode(wide, 'JPEG', exif=exif(6))
  upright = decode_image(encoded, 8, upright=True)
  assert upright[0].min() > 200 > 50 > upright[-1].max()
  as_stored = decode_image(encoded, 8)
  assert as_stored[:, 0].min() > 200 > 50 > as_stored[:, -1].max()


def test_the_orientation_may_be_in_xmp_alone():
  xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="3"/>'
  encoded = encode(quarters(), 'WEBP', lossless=True, xmp=xmp)
  np.testing.assert_array_equal(
    decode_image(encoded, 8, upright=True), _turned(3)
  )


@pytest.mark.filterwarnings('ignore:Corrupt EXIF data')
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'WEBP'])
@pytest.mark.parametrize('broken', [b'', b'no TIFF', b'II*\0\xff\xff\xff\xff'])
def test_broken_exif_leaves_an_image_as_it_is_stored(file_format, broken):
  grey = np.full((8, 8, 3), 99, np.uint8)
  encoded = encode(grey, file_format, exif=b'Exif\0\0' + broken)
  decoded = decode_image(encoded, 8, upright=True)
  np.testing.assert_allclose(decoded.astype(int), 99, atol=2)


def test_an_orientation_that_there_is_not_turns_nothing():
  tags = exif(9)
  encoded = encode(quarters(), exif=tags)
  np.testing.assert_array_equal(
    decode_image(encoded, 8, upright=True), quarters()
  )


def test_a_box_is_cut_out_of_the_turned_image():
  encoded = encode(quarters(), exif=exif(3))
  box = np.array([0, 0, 4, 4], np.float32)
  assert decode_image(encoded, 1, box, upright=True).tolist() == [[[255] * 3]]


@pytest.mark.parametrize(
  ('values', 'mode', 'file_format'),
  [
    (GREY.astype(np.uint16) * 257, 'I;16', 'PNG'),
    (GREY.astype(np.uint16) * 257, 'I;16', 'TIFF'),
    (GREY.astype(np.uint16) * 257, 'I;16B', 'TIFF'),
    (GREY.astype(np.int32) * 257, 'I', 'TIFF'),
    (GREY.astype(np.int32), 'I', 'TIFF'),
    (GREY.astype(np.int32) * 2**23 - 2**30, 'I', 'TIFF'),
    (GREY.astype(np.float32), 'F', 'TIFF'),
    (GREY.astype(np.float32) / 255, 'F', 'TIFF'),
    (GREY.astype(np.float32) * 257, 'F', 'TIFF'),
  ],
)
def test_grey_of_more_than_8_bits_is_scaled(values, mode, file_format):
  if mode == 'I;16B':
    picture = Image.frombytes(mode, (8, 8), values.astype('>u2').tobytes())
  else:
    picture = Image.fromarray(values)
  assert picture.mode == mode
  decoded = decode_image(encode(picture, file_format), 8)
  wanted = GREY
  if values.min() < 0:  # Its own range, from 0 to 252, is black to white.
    wanted = (GREY / 252 * 255).round()
  np.testing.assert_array_equal(decoded, np.stack([wanted] * 3, axis=-1))


def test_tiffs_of_12_bits_a_pixel_are_scaled():
  # Two pixels, 0x800 and 0xfff, in three bytes; Pillow writes no such file.
  entries = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 279: 3}
  directory = struct.pack('<H', len(entries)) + b''.join(
    struct.pack('<HHII', tag, 4, 1, value) for tag, value in entries.items()
  )
  pixels = bytes.fromhex('800fff') + b'\0'
  tiff = b'II*\0' + struct.pack('<I', 12) + pixels + directory + bytes(4)
  for at, grey in ((0, 128), (1, 255)):
    box = np.array([at, 0, at + 1, 1], np.float32)
    assert decode_image(tiff, 1, box).tolist() == [[[grey] * 3]]


@pytest.mark.filterwarnings('error')
def test_a_float_that_is_no_number_is_black_and_spoils_no_other():
  values = np.full((8, 8), 0.5, np.float32)
  values[0, :2] = np.nan, -np.inf
  values[1, 0] = np.inf
  decoded = decode_image(encode(values, 'TIFF'), 8)[..., 0]
  assert decoded[0, :2].tolist() == [0, 0]
  assert decoded[1, 0] == 255
  assert (decoded[2:] == 128).all()


def test_grey_of_one_value_is_no_division_by_zero():
  values = np.full((8, 8), -7, np.int32)
  assert decode_image(encode(values, 'TIFF'), 8).tolist() == [[[0] * 3] * 8] * 8


def _palette(*colours: int) -> Image.Image:
  picture = Image.new('P', (8, 8), 1)
  picture.putpalette(colours)
  return picture


@pytest.mark.parametrize(
  ('picture', 'file_format', 'options'),
  [
    (Image.new('RGBA', (8, 8), (9, 0, 0, 0)), 'PNG', {}),
    (Image.new('RGBA', (8, 8), (9, 0, 0, 0)), 'WEBP', {'lossless': True}),
    (Image.new('RGBA', (8, 8), (9, 0, 0, 0)), 'TIFF', {}),
    (Image.new('RGBA', (8, 8), (9, 0, 0, 0)), 'GIF', {}),
    (Image.new('LA', (8, 8), (9, 0)), 'PNG', {}),
    (_palette(9, 9, 9, 7, 7, 7), 'PNG', {'transparency': 1}),
    (_palette(9, 9, 9, 7, 7, 7), 'PNG', {'transparency': b'\x80\0'}),
    (Image.new('L', (8, 8), 9), 'PNG', {'transparency': 9}),
    (Image.new('RGB', (8, 8), (9, 8, 7)), 'PNG', {'transparency': (9, 8, 7)}),
    (Image.new('1', (8, 8), 0), 'PNG', {'transparency': 0}),
    (np.full((8, 8), 999, np.uint16), 'PNG', {'transparency': 999}),
  ],
)
def test_what_is_transparent_is_white(picture, file_format, options):
  encoded = encode(picture, file_format, **options)
  assert decode_image(encoded, 8).tolist() == WHITE


def test_what_is_half_transparent_is_mixed_with_white():
  [[pixel]] = decode_image(encode(Image.new('RGBA', (1, 1), (0, 0, 0, 51))), 1)
  assert pixel.tolist() == [204, 204, 204]


def test_what_is_opaque_keeps_its_colours():
  alpha = np.full((8, 8, 1), 255, np.uint8)
  rgba = np.concatenate([quarters(), alpha], axis=-1)
  np.testing.assert_array_equal(decode_image(encode(rgba), 8), quarters())


def test_palettes_and_cmyk_become_their_colours():
  encoded = encode(_palette(9, 9, 9, 7, 6, 5))
  assert decode_image(encoded, 8)[0, 0].tolist() == [7, 6, 5]
  magenta = Image.new('CMYK', (8, 8), (0, 255, 0, 0))
  assert decode_image(encode(magenta, 'TIFF'), 8)[0, 0].tolist() == [
    255,
    0,
    255,
  ]


@pytest.mark.parametrize('file_format', ['GIF', 'PNG', 'WEBP', 'TIFF'])
def test_of_an_animation_the_first_picture_is_taken(file_format):
  red, green, blue = decode_image(animation(file_format), 8)[4, 4].tolist()
  assert red > 240
  assert max(green, blue) < 15


@pytest.mark.parametrize(
  ('kind', 'content'),
  [
    (b'iCCP', b'big\0\0' + zlib.compress(bytes(2 << 20))),
    (b'zTXt', b'Comment\0\0' + zlib.compress(b'x' * (20 << 20))),
    (b'iTXt', b'Note\0\1\0\0\0' + zlib.compress(b'x' * (2 << 20))),
  ],
)
def test_a_png_that_says_much_of_itself_is_used(kind, content):
  encoded = png_with_chunk(kind, content)
  np.testing.assert_array_equal(decode_image(encoded, 8), quarters())


@pytest.mark.parametrize(
  ('error', 'reason'),
  [
    (OSError('broken data stream'), 'broken data stream'),
    (SyntaxError('not a PNG file'), 'not a PNG file'),
    (ValueError('too large'), 'too large'),
    (struct.error('unpack requires 4 bytes'), 'unpack requires 4 bytes'),
    (zlib.error('incorrect header'), 'incorrect header'),
    (IndexError(), 'IndexError'),
    (KeyError('tile'), 'tile'),
    (Image.DecompressionBombError('a bomb'), 'a bomb'),
    (AssertionError(), 'AssertionError'),
  ],
)
def test_whatever_a_decoder_raises_names_the_image(error, reason):
  with (
    pytest.raises(InputError, match=rf'a\.png: cannot decode .*{reason}'),
    refuse_undecodable('a.png'),
  ):
    raise error


def test_what_is_no_image_is_said_in_words():
  with (
    pytest.raises(InputError, match='it has no format of pictures'),
    refuse_undecodable('a.heic'),
  ):
    decode_image(b'<html>404</html>', 8)


def test_a_lack_of_memory_is_no_fault_of_the_image():
  with pytest.raises(MemoryError), refuse_undecodable('a.png'):
    raise MemoryError


def test_an_encoded_jpeg_says_nothing_of_itself():
  picture = Image.new('RGB', (8, 8))
  picture.info = {'comment': b'x' * 100_000, 'exif': exif(6).tobytes()}
  with Image.open(io.BytesIO(encode_jpeg(picture, 95))) as read:
    assert ORIENTATION not in read.getexif()
    assert not read.info.get('comment')
