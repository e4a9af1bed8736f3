"""What it takes to carry a ResNet-50 to PyTorch's names and from them.

  python -m benchmarks.conversion [--suffix=.safetensors] [--rounds=5]

Makes up weights in the published layout (2048 features to 256) and converts
them both ways, each time in a fresh process. Prints the seconds that a
conversion itself takes, and the most memory that the process holds above what
it held when all was imported, in multiples of the weights.
"""

import argparse
from collections.abc import Callable
import concurrent.futures
import importlib
import multiprocessing
import pathlib
import tempfile
import time

from flax import traverse_util
import jax
import numpy as np
import safetensors.numpy

from advbct_jax.convert.from_pytorch import import_weights
from advbct_jax.convert.to_pytorch import export_weights
from advbct_jax.models.encoder import make_encoder
from advbct_jax.weights.layouts import PUBLISHED, pytorch_shape
from benchmarks.store_size import peak_gb
from benchmarks.timing import spread


def make_weights(path: pathlib.Path) -> float:
  """Writes made-up weights of a ResNet-50 and gives their size in GiB."""
  encoder = make_encoder('resnet50')
  shapes = jax.eval_shape(
    lambda key, images: encoder.init(key, images, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 64, 64, 3), 'float32'),
  )
  random = np.random.default_rng(0)
  tensors = {}
  for collection, tree in shapes.items():
    for name, leaf in traverse_util.flatten_dict(tree, sep='/').items():
      theirs = PUBLISHED.pytorch_name(f'{collection}/encoder/{name}')
      shape = pytorch_shape(leaf.shape)
      tensors[str(theirs)] = random.random(shape, np.float32)
  safetensors.numpy.save_file(tensors, path)
  return sum(tensor.nbytes for tensor in tensors.values()) / 2**30


def measure(
  convert: Callable[..., str], *arguments: object
) -> tuple[float, float]:
  """The seconds of a conversion, and its peak in GiB above the start."""
  if not any(str(argument).endswith('.safetensors') for argument in arguments):
    importlib.import_module('torch')  # no part of the conversion
  before, start = peak_gb(), time.perf_counter()
  convert(*arguments)
  return time.perf_counter() - start, peak_gb() - before


def measure_afresh(
  convert: Callable[..., str], *arguments: object
) -> tuple[float, float]:
  """The same in a process of its own, for a peak never sinks."""
  with concurrent.futures.ProcessPoolExecutor(
    1, multiprocessing.get_context('spawn')
  ) as process:
    return process.submit(measure, convert, *arguments).result()


def main() -> None:
  """Prints what each direction takes."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--suffix', default='.safetensors')
  parser.add_argument('--rounds', type=int, default=5)
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    with concurrent.futures.ProcessPoolExecutor(
      1, multiprocessing.get_context('spawn')
    ) as process:
      # Not in this process, whose peak a new one would begin with.
      made = root / 'made.safetensors'
      size = process.submit(make_weights, made).result()
      process.submit(import_weights, str(made), root / 'trained').result()
    weights = root / f'out{flags.suffix}'
    measured: dict[str, list[tuple[float, float]]] = {
      'to-pytorch': [],
      'from-pytorch': [],
    }
    for number in range(flags.rounds):
      measured['to-pytorch'].append(
        measure_afresh(export_weights, root / 'trained', weights)
      )
      measured['from-pytorch'].append(
        measure_afresh(import_weights, str(weights), root / f'back{number}')
      )
  print(f'ResNet-50, 256 dimensions, {flags.suffix}: {size * 1024:.0f} MiB')
  for direction, values in measured.items():
    seconds, peaks = np.transpose(values)
    print(
      f'{direction:<12}  {spread(seconds, 2)} s, '
      f'{spread(peaks / size, 2)} times the weights'
    )


if __name__ == '__main__':
  main()
