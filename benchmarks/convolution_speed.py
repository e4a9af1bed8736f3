"""A CPU's three ways to convolve, beside PyTorch, in one run.

  python -m benchmarks.convolution_speed [--image_size=64] [--width=1]

A ResNet-18 forward and backward in training mode on made-up images: patches
everywhere, XLA's convolutions everywhere, what `Convolution` chooses by itself
for each layer, and the same network in PyTorch (needs the `test` extra).
"""

import argparse
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import torch

from advbct_jax.models import resnet
from advbct_jax.models.convolution import Convolution
from benchmarks.timing import spread, time_in_turns

WAYS = {'chosen by layer': None, 'patches': True, "XLA's": False}


def jax_gradient(
  images: np.ndarray, width: float, stem: str, as_patches: bool | None
) -> Callable[[], object]:
  """A ResNet-18's gradient with one way to convolve."""
  layer = partial(Convolution, as_patches=as_patches)
  model = resnet.RESNETS['resnet18'](width=width, stem=stem, convolution=layer)
  variables = model.init(jax.random.key(0), images, train=False)

  @jax.jit
  def gradient(variables: dict, images: jax.Array) -> object:
    def loss(params: dict) -> tuple[jax.Array, object]:
      pooled, updated = model.apply(
        {**variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      return pooled.sum(), updated

    return jax.grad(loss, has_aux=True)(variables['params'])

  return partial(gradient, variables, images)


class TorchBlock(torch.nn.Module):
  """A basic block in PyTorch."""

  def __init__(self, inputs: int, channels: int, stride: int):
    super().__init__()
    self.body = torch.nn.Sequential(
      torch.nn.Conv2d(inputs, channels, 3, stride, 1, bias=False),
      torch.nn.BatchNorm2d(channels),
      torch.nn.ReLU(),
      torch.nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
      torch.nn.BatchNorm2d(channels),
    )
    self.shortcut = torch.nn.Sequential()
    if stride > 1 or inputs != channels:
      self.shortcut = torch.nn.Sequential(
        torch.nn.Conv2d(inputs, channels, 1, stride, bias=False),
        torch.nn.BatchNorm2d(channels),
      )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, C, H, W] to [B, channels, H/stride, W/stride]."""
    return torch.relu(self.body(x) + self.shortcut(x))


def torch_gradient(
  images: np.ndarray, width: float, stem: str
) -> Callable[[], object]:
  """The same network's gradient in PyTorch."""
  channels = [round(count * width) for count in (64, 128, 256, 512)]
  layers = {
    'imagenet': [
      torch.nn.Conv2d(3, channels[0], 7, 2, 3, bias=False),
      torch.nn.BatchNorm2d(channels[0]),
      torch.nn.ReLU(),
      torch.nn.MaxPool2d(3, 2, 1),
    ],
    'small': [
      torch.nn.Conv2d(3, channels[0], 3, 2, 1, bias=False),
      torch.nn.BatchNorm2d(channels[0]),
      torch.nn.ReLU(),
    ],
  }[stem]
  inputs = channels[0]
  for stage, outputs in enumerate(channels):
    layers.append(TorchBlock(inputs, outputs, 1 if stage == 0 else 2))
    layers.append(TorchBlock(outputs, outputs, 1))
    inputs = outputs
  model = torch.nn.Sequential(*layers)
  batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

  def gradient() -> None:
    model.zero_grad()
    model(batch).mean((2, 3)).sum().backward()

  return gradient


def main() -> None:
  """Prints the comparison."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--image_size', type=int, default=64)
  parser.add_argument('--batch_size', type=int, default=64)
  parser.add_argument('--width', type=float, default=1.0)
  parser.add_argument('--stem', choices=resnet.STEMS, default='imagenet')
  parser.add_argument('--rounds', type=int, default=5)
  arguments = parser.parse_args()
  size, batch = arguments.image_size, arguments.batch_size
  print(f'ResNet-18, width {arguments.width}, {size} pixels, batch {batch}')
  random = np.random.default_rng(0)
  images = random.normal(size=(batch, size, size, 3)).astype(np.float32)
  functions = {
    name: jax_gradient(images, arguments.width, arguments.stem, as_patches)
    for name, as_patches in WAYS.items()
  }
  functions['PyTorch'] = torch_gradient(images, arguments.width, arguments.stem)
  seconds = time_in_turns(functions, arguments.rounds)
  for name, values in seconds.items():
    print(f'{name:<16} {spread(batch / values, 1)} images/s')


if __name__ == '__main__':
  main()
