"""Encoded pictures as people have them."""

import io
import struct
from typing import Any
import zlib

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def encode(
  picture: Image.Image | np.ndarray, file_format: str = 'PNG', **options: Any
) -> bytes:
  """Encodes a picture; options are those of Pillow's `save`."""
  if isinstance(picture, np.ndarray):
    picture = Image.fromarray(picture)
  encoded = io.BytesIO()
  picture.save(encoded, file_format, **options)
  return encoded.getvalue()


def quarters() -> np.ndarray:
  """An 8×8 image: red, green above blue, white."""
  pixels = np.zeros((8, 8, 3), np.uint8)
  pixels[:4, :4] = (255, 0, 0)
  pixels[:4, 4:] = (0, 255, 0)
  pixels[4:, :4] = (0, 0, 255)
  pixels[4:, 4:] = (255, 255, 255)
  return pixels


def exif(orientation: int) -> Image.Exif:
  """EXIF that has an orientation, 1 to 8, and nothing else."""
  tags = Image.Exif()
  tags[ORIENTATION] = orientation
  return tags


def png_with_chunk(kind: bytes, content: bytes) -> bytes:
  """A PNG of the quarters that has one more chunk."""
  png = encode(quarters())
  body = kind + content
  chunk = struct.pack('>I', len(content)) + body
  chunk += struct.pack('>I', zlib.crc32(body))
  header = 33
  return png[:header] + chunk + png[header:]


def png_broken_inside() -> bytes:
  """A PNG that begins and ends as a whole one does."""
  pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
  png = bytearray(encode(pixels))
  png[len(png) // 2 : len(png) // 2 + 40] = bytes(40)
  return bytes(png)


def animation(file_format: str = 'GIF') -> bytes:
  """A red picture that becomes a blue one."""
  red, blue = (Image.new('RGB', (16, 16), colour) for colour in ('red', 'blue'))
  return encode(red, file_format, save_all=True, append_images=[blue])


def png_that_claims(width: int, height: int) -> bytes:
  """A small PNG whose header says another size."""
  png = bytearray(encode(quarters()))
  png[16:24] = struct.pack('>II', width, height)
  png[29:33] = struct.pack('>I', zlib.crc32(bytes(png[12:29])))
  return bytes(png)


def jpeg_that_claims(width: int, height: int) -> bytes:
  """A small JPEG whose header says another size."""
  jpeg = bytearray(encode(quarters(), 'JPEG'))
  at = jpeg.index(b'\xff\xc0') + 5
  jpeg[at : at + 4] = struct.pack('>HH', height, width)
  return bytes(jpeg)
