"""How far other preprocessings move an encoder's vectors.

  python -m benchmarks.resampling --encoder=WORKDIR [--images=FOLDER]

Embeds the same JPEGs (without a folder, landmarks drawn 96 pixels wide)
squashed by our own filter (Pillow's bilinear) and by others that a service
might use, and prints the cosine similarity of each vector with ours: median,
and the worst of all images. It needs torch.
"""

import argparse
from collections.abc import Callable
import pathlib
import tempfile

import numpy as np
from PIL import Image
import torch
from torch.nn import functional

from advbct_jax import parallel
from advbct_jax.data.decoding import decode_image
from advbct_jax.drawn_landmarks.data_set import draw_landmarks
from advbct_jax.embeddings.extract import FrozenEncoder
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.training.checkpoints import load_encoder

Preprocess = Callable[[pathlib.Path, int], np.ndarray]


def _ours(path: pathlib.Path, size: int) -> np.ndarray:
  return decode_image(path.read_bytes(), size)


def _pillow_bicubic(path: pathlib.Path, size: int) -> np.ndarray:
  image = Image.open(path).convert('RGB')
  return np.array(image.resize((size, size), Image.Resampling.BICUBIC))


def _torch(antialias: bool) -> Preprocess:
  def preprocess(path: pathlib.Path, size: int) -> np.ndarray:
    pixels = torch.from_numpy(np.array(Image.open(path).convert('RGB')))
    resized = functional.interpolate(
      pixels.permute(2, 0, 1)[None].float(),
      (size, size),
      mode='bilinear',
      antialias=antialias,
    )
    return resized[0].permute(1, 2, 0).round().byte().numpy()

  return preprocess


PREPROCESSINGS: dict[str, Preprocess] = {
  'ours again': _ours,
  'torch bilinear, antialias=True': _torch(antialias=True),
  "torch's default, OpenCV's INTER_LINEAR": _torch(antialias=False),
  'Pillow bicubic': _pillow_bicubic,
}


def embed(
  encoder: FrozenEncoder, paths: list[pathlib.Path], preprocess: Preprocess
) -> np.ndarray:
  """Embeds images, [N, D] of length 1."""
  images = np.stack([preprocess(path, encoder.image_size) for path in paths])
  embeddings = encoder.embed(parallel.shard(images))
  return unit_rows(np.asarray(embeddings).reshape(len(paths), -1))


def main() -> None:
  """Prints a line a preprocessing."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--encoder', type=pathlib.Path, required=True)
  parser.add_argument('--images', type=pathlib.Path)
  parser.add_argument('--limit', type=int, default=256, help='images (256)')
  arguments = parser.parse_args()
  encoder = load_encoder(arguments.encoder)
  with tempfile.TemporaryDirectory() as folder:
    drawn = pathlib.Path(folder) / 'landmarks'
    images = arguments.images or drawn
    if arguments.images is None:
      draw_landmarks(drawn, classes=16, held_out_classes=8, image_size=96)
    paths = sorted(images.rglob('*.jpg'))[: arguments.limit]
    ours = embed(encoder, paths, _ours)
    print(f'{len(paths)} images at {encoder.image_size} pixels')
    for name, preprocess in PREPROCESSINGS.items():
      cosine = (ours * embed(encoder, paths, preprocess)).sum(axis=1)
      print(f'{name:<40} {np.median(cosine):.4f}, worst {cosine.min():.4f}')


if __name__ == '__main__':
  main()
