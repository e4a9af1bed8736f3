"""From encoded images, of whatever kind people have, to pixels; and to JPEG."""

from collections.abc import Iterator
import contextlib
import io
import re
import warnings

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from advbct_jax.errors import InputError

# Pillow refuses PNGs whose colour profile or comments inflate to more than
# 1 MiB apiece, as those of editors and of image generators do; their pixels are
# fine. A bound there must be, for a kilobyte can inflate to a gigabyte.
PngImagePlugin.MAX_TEXT_CHUNK = 64 * 2**20
PngImagePlugin.MAX_TEXT_MEMORY = 256 * 2**20

# So many pixels an image may have, by its header: 256 MiB of RGB, which is
# where Pillow begins to warn; a few threads' worth fits into any machine.
MAX_PIXELS = 2**28 // 3
# `open_image` refuses what Pillow would warn of, or was told to take it.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)

# Of Pillow's formats those that pictures come in. Of the others some run
# programs (EPS runs Ghostscript) or unpack without bounds (FITS), and a file is
# known by its first bytes, whatever it is called.
_JPEGS = ('JPEG', 'MPO')
_FORMATS = (
  *_JPEGS,
  *('PNG', 'WEBP', 'GIF', 'TIFF', 'BMP', 'PPM', 'JPEG2000'),
  *('AVIF', 'HEIF'),  # as the version, or a plugin, has them
)

# A progressive JPEG comes in ten or so. Each takes a tenth of a second in a
# large image, however few bytes it has, and a file has room for very many.
_MOST_SCANS = 200
# What begins a part of a JPEG; within its pixels come only those left out.
_MARKER = re.compile(rb'\xff+([^\x00\x01\xff\xd0-\xd7])')
_SCAN, _END = b'\xda', b'\xd9'

# How to turn an image by its EXIF orientation; 1 is upright.
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}

_TIFF_BITS_PER_SAMPLE = 258

# PIL's filters for squashing by their names here. All of them are antialiased:
# they average over the pixels that fall together.
RESAMPLINGS = {
  'bilinear': Image.Resampling.BILINEAR,
  'bicubic': Image.Resampling.BICUBIC,
}


def decode_image(
  encoded: bytes,
  size: int,
  box: np.ndarray | None = None,
  upright: bool = False,
  resampling: str = 'bilinear',
  max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
  """Decodes an image, crops it, and squashes it to a square.

  Resampling is by PIL's antialiased filters, which torchvision's `Resize` uses
  on PIL images.

  Args:
    encoded: an image of a format that `open_image` takes. Of several pictures
      in it the first is taken; what `flatten` does is done to it.
    size: side of the result in pixels.
    box: [4] x1, y1, x2, y2 in pixels to crop to first, after any turning.
    upright: whether the image is turned by its EXIF orientation. (Pillow turns
      TIFFs in any case.)
    resampling: a key of `RESAMPLINGS`.
    max_pixels: how many pixels the image may have.

  Returns:
    [size, size, 3] uint8 RGB.
  """
  with open_image(encoded, max_pixels) as image:
    rgb = flatten(image).convert('RGB')
    if upright:
      rgb = turn_upright(rgb, image)
  if box is not None:
    rgb = rgb.crop(tuple(box.tolist()))
  if rgb.size != (size, size):
    rgb = rgb.resize((size, size), RESAMPLINGS[resampling])
  return np.asarray(rgb)


def open_image(encoded: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
  """Opens an image; of its pixels none is decoded yet.

  Args:
    encoded: a JPEG, PNG, WebP, GIF, TIFF, BMP, PPM, JPEG 2000 or AVIF, or a
      HEIF where a plugin of Pillow's reads it.
    max_pixels: how many pixels it may have, by its header.

  Returns:
    The image, to be closed.

  Raises:
    Exception: what `refuse_undecodable` puts into words, if it is of another
      format, broken, or has more pixels.
  """
  if not encoded:
    raise ValueError('the file is empty')
  # Whoever asks for more than Pillow's own limit gets it.
  if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
  Image.init()  # knows the formats, and costs nothing from the second time on
  formats = [name for name in _FORMATS if name in Image.OPEN]
  try:
    image = Image.open(io.BytesIO(encoded), formats=formats)
  except Image.DecompressionBombError as error:
    # Pillow names its own limit, twice that of its warning.
    raise Image.DecompressionBombError(
      f'its header says more than twice {max_pixels} pixels'
    ) from error
  if image.width * image.height > max_pixels:
    image.close()
    raise Image.DecompressionBombError(
      f'its header says {image.width} × {image.height} pixels, more than '
      f'{max_pixels}'
    )
  if image.format in _JPEGS and _count_scans(encoded) > _MOST_SCANS:
    image.close()
    raise ValueError(f'it comes in more than {_MOST_SCANS} scans')
  return image


def _count_scans(encoded: bytes) -> int:
  """In how many scans a JPEG comes, without its preview's and what follows."""
  scans, at = 0, 2
  while (found := _MARKER.search(encoded, at)) and found[1] != _END:
    scans += found[1] == _SCAN
    length = encoded[found.end() : found.end() + 2]
    at = found.end() + int.from_bytes(length, 'big')
  return scans


def flatten(image: Image.Image) -> Image.Image:
  """Makes an opaque image of 8 bits a channel.

  Transparent images are laid on white. Grey of 16 bits is scaled to 8; so is
  grey of 32 bits, whose format says not which value is white: it is the
  smallest of 1 (of floats), 255 and 65535 that no value exceeds, or else the
  image's own range becomes black to white.

  Args:
    image: of any mode.

  Returns:
    An image of the mode L or RGB; the given one where it is such already.
  """
  if image.mode.startswith('I') or image.mode == 'F':
    return _scale_grey(image)
  if image.has_transparency_data:
    rgba = image.convert('RGBA')
    white = Image.new('RGBA', rgba.size, 'white')
    return Image.alpha_composite(white, rgba).convert('RGB')
  if image.mode == '1':
    return image.convert('L')
  return image if image.mode in ('L', 'RGB') else image.convert('RGB')


def turn_upright(pixels: Image.Image, source: Image.Image) -> Image.Image:
  """Turns or mirrors pixels by the EXIF orientation of their source.

  Args:
    pixels: of the source, in the order that they are stored in.
    source: what was decoded.

  Returns:
    The image as a viewer shows it; the given one where that is upright.
  """
  # Pillow has turned a TIFF, and taken the tag away, once it is loaded.
  source.load()
  try:
    orientation = source.getexif().get(ExifTags.Base.Orientation, 1)
  # Cameras and editors write EXIF that breaks its parser in many ways. The
  # pixels are good all the same, and nobody can say which way is up.
  except Exception:
    return pixels
  turn = _TURNS.get(orientation)
  return pixels if turn is None else pixels.transpose(turn)


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
  """Encodes an image that is flat and upright, without what it said of itself.

  Args:
    image: of the mode L or RGB.
    quality: as libjpeg counts it, to 100.
  """
  encoded = io.BytesIO()
  # Pillow would take over a comment, and fails where a GIF's is too long.
  image.save(encoded, 'JPEG', quality=quality, comment=b'')
  return encoded.getvalue()


@contextlib.contextmanager
def refuse_undecodable(where: str, doing: str = 'decode') -> Iterator[None]:
  """Turns whatever a decoder raises into an error that names the image.

  Args:
    where: the image lies, as a person would look for it.
    doing: what cannot be done.

  Raises:
    InputError: for any exception but a lack of memory, which is no fault of the
      image.
  """
  try:
    yield
  except (InputError, MemoryError):
    raise
  # Each of Pillow's decoders raises what its author thought of: OSError,
  # SyntaxError, ValueError, struct.error, IndexError, …; a list has gaps.
  except Exception as error:
    if isinstance(error, UnidentifiedImageError):
      # Its own text is the address of a buffer.
      reason = 'it has no format of pictures that is read here'
    else:
      reason = f'{error}' or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
      raise InputError(
        f'{where}: cannot {doing} the image ({reason.rstrip(".")}). Shrink it, '
        'leave it out, or allow more: config.data.max_pixels in training, '
        '--max_pixels in advbct prepare and evaluate.'
      ) from error
    raise InputError(
      f'{where}: cannot {doing} the image ({reason}). A whole JPEG, PNG or '
      'other image is wanted; fetch or export it again, or leave it out.'
    ) from error


def _scale_grey(image: Image.Image) -> Image.Image:
  """Scales grey of more than 8 bits; Pillow's own conversion clips it."""
  values = np.asarray(image)
  if image.mode.startswith('I;'):
    # Of TIFFs some have 12 bits a pixel.
    tags = getattr(image, 'tag_v2', {})
    low, high = 0.0, 2.0 ** tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[0] - 1
  else:
    low, high = _find_range(values)
  scaled = (values.astype(np.float64) - low) * (255 / (high - low))
  grey = np.nan_to_num(scaled.round().clip(0, 255)).astype(np.uint8)
  # A PNG can name one grey that stands for transparent.
  transparent = image.info.get('transparency')
  if isinstance(transparent, int):
    grey[values == transparent] = 255
  return Image.fromarray(grey)


def _find_range(values: np.ndarray) -> tuple[float, float]:
  """Which values of [H, W] greys are black and white."""
  finite = values[np.isfinite(values)]
  if not finite.size:
    return 0.0, 1.0
  low, high = float(finite.min()), float(finite.max())
  floats = np.issubdtype(values.dtype, np.floating)
  for white in (1.0, 255.0, 65535.0) if floats else (255.0, 65535.0):
    if low >= 0 and high <= white:
      return 0.0, white
  return low, max(high, low + 1)
