"""Embeds images in PyTorch with an encoder that advbct_jax has trained.

  python -m advbct_jax.convert to-pytorch WORKDIR encoder.safetensors
  python examples/embed_image.py encoder.safetensors IMAGE [IMAGE …]

Copy this file and pytorch_encoder.py to where images are to be embedded; they
need torch, safetensors, NumPy and Pillow.

The preprocessing is part of the encoder. An image is decoded by Pillow, turned
to RGB, and squashed to a square by Pillow's bilinear filter, which averages
over all pixels that fall together (antialiasing). torchvision's `Resize` on a
PIL image is the same filter, and on tensors a close one with `antialias=True`.
OpenCV's `INTER_LINEAR`, and torch's `interpolate` by default, don't average:
their vectors are others, the more so the larger the image. Other JPEG decoders
differ by a grey level or two (`python -m benchmarks.resampling` measures).
"""

import argparse
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
  encoder = build_encoder(card)
  tensors = safetensors.torch.load_file(path)
  # Beside the encoder a file may hold what it was trained with: a classifier,
  # a discriminator, boundaries.
  encoder.load_state_dict(
    {name: tensors[name] for name in encoder.state_dict()}
  )
  return encoder.eval(), card


def preprocess(image: Image.Image, card: dict) -> torch.Tensor:
  """Makes an image a [3, H, W] tensor as the encoder was trained on."""
  size = (card['image_size'], card['image_size'])
  resized = image.convert('RGB').resize(size, Image.Resampling.BILINEAR)
  pixels = torch.from_numpy(np.array(resized)).float() / 255
  deviation = torch.tensor(card['standard_deviation'])
  normalized = (pixels - torch.tensor(card['mean'])) / deviation
  return normalized.permute(2, 0, 1)


def embed(
  encoder: torch.nn.Module, card: dict, paths: list[pathlib.Path]
) -> torch.Tensor:
  """Embeds images, [N, D] of length 1: their dot products are cosines."""
  images = torch.stack([preprocess(Image.open(path), card) for path in paths])
  with torch.inference_mode():
    return functional.normalize(encoder(images))


def main() -> None:
  """Prints the beginning of each embedding, and stores them all if told to."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('encoder', type=pathlib.Path, help='.safetensors')
  parser.add_argument('images', type=pathlib.Path, nargs='+')
  parser.add_argument('--out', type=pathlib.Path, help='.npy for the vectors')
  arguments = parser.parse_args()
  encoder, card = load_encoder(arguments.encoder)
  embeddings = embed(encoder, card, arguments.images).numpy()
  for path, embedding in zip(arguments.images, embeddings, strict=True):
    start = ' '.join(f'{value:.4f}' for value in embedding[:6])
    print(f'{path}: {start} … ({len(embedding)})')
  if arguments.out:
    np.save(arguments.out, embeddings)


if __name__ == '__main__':
  main()
