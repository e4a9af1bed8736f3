"""Embeds images in PyTorch with an encoder that advbct_jax has trained.

  advbct convert to-pytorch WORKDIR encoder.safetensors
  python examples/embed_image.py encoder.safetensors IMAGE [IMAGE …]

Copy this file and pytorch_encoder.py to where images are to be embedded; they
need torch, safetensors, NumPy and Pillow.

The preprocessing is part of the encoder. An image is decoded by Pillow, turned
to RGB, and squashed to a square by Pillow's bilinear filter, or its bicubic one
if the card says so, which average over all pixels that fall together
(antialiasing). torchvision's `Resize` on a PIL image is the same filter, and on
tensors a close one with `antialias=True`. OpenCV's `INTER_LINEAR`, and torch's
`interpolate` by default, don't average: their vectors are others, the more so
the larger the image. Other JPEG decoders differ by a grey level or two.
"""

import argparse
import hashlib
import json
import pathlib

import numpy as np
from PIL import Image
from pytorch_encoder import build_encoder
import safetensors.torch
import torch
from torch.nn import functional


def load_encoder(path: pathlib.Path) -> tuple[torch.nn.Module, dict]:
  """Reads an encoder, and the card that lies beside it."""
  card = json.loads(path.with_suffix('.json').read_text())
  if hashlib.sha256(path.read_bytes()).hexdigest() != card['sha256']:
    raise SystemExit(f'{path}: not the file that its card speaks of.')
  if path.suffix == '.safetensors':
    tensors = safetensors.torch.load_file(path)
  else:
    tensors = torch.load(path, weights_only=True)
  encoder = build_encoder(card)
  # Beside the encoder a file may hold what it was trained with: a classifier,
  # a discriminator, boundaries.
  encoder.load_state_dict(
    {name: tensors[name] for name in encoder.state_dict()}
  )
  return encoder.eval(), card


def preprocess(image: Image.Image, card: dict) -> torch.Tensor:
  """Makes an image a [3, H, W] tensor as the encoder was trained on."""
  size = (card['image_size'], card['image_size'])
  # Cards of before have no filter: it was this one.
  resampling = Image.Resampling[card.get('resampling', 'bilinear').upper()]
  resized = image.convert('RGB').resize(size, resampling)
  pixels = torch.from_numpy(np.array(resized)).float() / 255
  deviation = torch.tensor(card['standard_deviation'])
  normalized = (pixels - torch.tensor(card['mean'])) / deviation
  return normalized.permute(2, 0, 1)


def embed(
  encoder: torch.nn.Module,
  card: dict,
  paths: list[pathlib.Path],
  compatible: bool = False,
) -> torch.Tensor:
  """Embeds images, [N, D] of length 1: their dot products are cosines.

  An encoder that is wider than the old one is compared with old vectors by its
  first components alone, cut off before they are normalised.
  """
  images = torch.stack([preprocess(Image.open(path), card) for path in paths])
  with torch.inference_mode():
    embeddings = encoder(images)
  if compatible:
    width = card['compatible_dimension'] or card['dimension']
    embeddings = embeddings[:, :width]
  return functional.normalize(embeddings)


def main() -> None:
  """Prints the beginning of each embedding, and stores them all if told to."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('encoder', type=pathlib.Path, help='.safetensors or .pth')
  parser.add_argument('images', type=pathlib.Path, nargs='+')
  parser.add_argument('--out', type=pathlib.Path, help='.npy for the vectors')
  parser.add_argument(
    '--compatible',
    action='store_true',
    help='only the part that old vectors can be compared with',
  )
  arguments = parser.parse_args()
  encoder, card = load_encoder(arguments.encoder)
  embeddings = embed(encoder, card, arguments.images, arguments.compatible)
  for path, embedding in zip(arguments.images, embeddings, strict=True):
    start = ' '.join(f'{value:.4f}' for value in embedding[:6])
    print(f'{path}: {start} … ({len(embedding)})')
  if arguments.out:
    np.save(arguments.out, embeddings.numpy())


if __name__ == '__main__':
  main()
