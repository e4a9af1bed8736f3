"""What AdvBCT's terms cost: its step beside the same step without them.

  python -m benchmarks.step_cost [--image_size=64] [--batch_size=64]

Both are the compiled, mapped train steps of configs/gldv2.py on made-up images;
one has the method `advbct`, the other `independent`. Prints images/s of each
and the ratio of their times, round by round.
"""

import argparse
import pathlib

import jax
import numpy as np

from advbct_jax import parallel
from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.data.pipeline import LoadBatch
from advbct_jax.data.splits import split_training_set
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.methods.method import OldModel, OldSide
from advbct_jax.training.run import Run, TrainingSet
from benchmarks.timing import spread, time_in_turns
from configs import gldv2


class Step:
  """A train step that goes on from its own last state."""

  def __init__(self, run: Run, batch: dict[str, np.ndarray]):
    self._step = run.compiled_step()
    self._state = parallel.replicate(run.initial_state())
    self._batch = run.complete_batch(batch)
    self._constants = run.constants()

  def __call__(self) -> object:
    """Takes one step."""
    self._state, metrics = self._step(
      self._state, self._batch, *self._constants
    )
    return metrics


def make_steps(arguments: argparse.Namespace) -> dict[str, Step]:
  """Compiles the step with and without AdvBCT's terms."""
  config = gldv2.get_config()
  config.model.architecture = arguments.architecture
  config.data.image_size = arguments.image_size
  config.batch_size = arguments.batch_size
  random = np.random.default_rng(0)
  landmarks = np.repeat(np.arange(arguments.classes), 20)
  split = split_training_set(landmarks, **config.data.split)
  count, size = len(landmarks), arguments.image_size
  old_embeddings = random.normal(size=(count, config.model.dimension))
  old_embeddings = old_embeddings.astype(np.float32)
  statistics = class_statistics(
    old_embeddings, split.old_labels, split.old_classes
  )
  image_set = ImageSet('made-up', [], ImageFiles(pathlib.Path(), []))
  data = TrainingSet(
    LoadBatch(image_set, size), np.arange(count), split.labels, split.classes
  )
  old = OldSide(
    old_embeddings,
    split.labels,
    split.old_labels,
    OldModel(statistics, split.old_class),
  )
  rows = random.choice(count, config.batch_size, replace=False)
  shape = (config.batch_size, size, size, 3)
  batch = {
    'image': random.integers(0, 256, shape).astype(np.uint8),
    'row': rows.astype(np.int32),
  }
  steps = {}
  for method in ('independent', 'advbct'):
    config.method = method
    run = Run(config.copy_and_resolve_references(), data, old)
    steps[method] = Step(run, batch)
  return steps


def main() -> None:
  """Prints the comparison."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--architecture', default='resnet18')
  parser.add_argument('--image_size', type=int, default=64)
  parser.add_argument('--batch_size', type=int, default=64)
  parser.add_argument('--classes', type=int, default=1000)
  parser.add_argument('--rounds', type=int, default=15)
  arguments = parser.parse_args()
  print(
    f'{arguments.architecture}, {arguments.image_size} pixels, batch '
    f'{arguments.batch_size}, {jax.device_count()} × '
    f'{jax.devices()[0].device_kind}'
  )
  seconds = time_in_turns(make_steps(arguments), arguments.rounds)
  for method, values in seconds.items():
    print(f'{method:<12} {spread(arguments.batch_size / values, 1)} images/s')
  ratios = seconds['advbct'] / seconds['independent']
  print(f'time of a step, advbct / independent: {spread(ratios)}')


if __name__ == '__main__':
  main()
