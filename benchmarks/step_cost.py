"""What each method costs: its step beside the plain one, and what it keeps.

  python -m benchmarks.step_cost [--methods=bct,l2] [--image_size=64]

All are the compiled, mapped train steps of configs/gldv2.py on made-up images,
each in turns with that of the method `independent` on the same encoder. Prints
how many times as long a step takes, round by round, how many compilations came
after the first step, and what lies on the device beside parameters: the
method's memory, and what it has prepared of the old side.
"""

import argparse
import dataclasses
import pathlib

import jax
import ml_collections
import numpy as np

from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.data.pipeline import LoadBatch
from advbct_jax.data.splits import split_training_set
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.methods import METHODS
from advbct_jax.methods.method import OldModel, OldSide
from advbct_jax.training.run import Run, TrainingSet
from benchmarks.timing import spread, time_in_turns
from configs import gldv2

_COMPILED = '/jax/core/compile/backend_compile_duration'


class Step:
  """A train step that goes on from its own last state."""

  def __init__(self, run: Run, batch: dict[str, np.ndarray]):
    self._step = run.compiled_step()
    self._state = run.initial_state()
    self._batch = run.complete_batch(batch)
    self._constants = run.constants()

  def __call__(self) -> object:
    """Takes one step."""
    self._state, metrics = self._step(
      self._state, self._batch, *self._constants
    )
    return metrics

  @property
  def kept_bytes(self) -> int:
    """Of the method's memory, and of what it has prepared."""
    old, _ = self._constants
    kept = (self._state.memory, old.prepared if old else None)
    return sum(array.nbytes for array in jax.tree.leaves(kept))


@dataclasses.dataclass(frozen=True)
class MadeUp:
  """A made-up training set, its old side, and a batch of it."""

  data: TrainingSet
  old: OldSide
  batch: dict[str, np.ndarray]


def make_up(config: ml_collections.ConfigDict, classes: int) -> MadeUp:
  """Draws images and old embeddings, twenty images a class."""
  random = np.random.default_rng(0)
  landmarks = np.repeat(np.arange(classes), 20)
  split = split_training_set(landmarks, **config.data.split)
  count, size = len(landmarks), config.data.image_size
  width = config.old.model.dimension
  embeddings, independent = random.normal(size=(2, count, width)).astype(
    np.float32
  )
  old = OldSide(
    embeddings,
    split.labels,
    split.old_labels,
    OldModel(
      class_statistics(embeddings, split.old_labels, split.old_classes),
      split.old_class,
      random.normal(size=(split.old_classes, width)).astype(np.float32),
    ),
    {'independent': independent},
  )
  image_set = ImageSet('made-up', [], ImageFiles(pathlib.Path(), []))
  data = TrainingSet(
    LoadBatch(image_set, size), np.arange(count), split.labels, split.classes
  )
  shape = (config.batch_size, size, size, 3)
  batch = {
    'image': random.integers(0, 256, shape).astype(np.uint8),
    'row': random.choice(count, config.batch_size, False).astype(np.int32),
  }
  return MadeUp(data, old, batch)


def make_config(
  arguments: argparse.Namespace, method: str
) -> ml_collections.ConfigDict:
  """The config of a method's run, with the width that the method wants."""
  config = gldv2.get_config()
  config.model.architecture = arguments.architecture
  config.data.image_size = arguments.image_size
  config.batch_size = arguments.batch_size
  config.method = method
  old = config.old.model.dimension
  if method == 'bt2':
    config.model.dimension = old + config.bt2.extra_dimensions
    config.model.compatible_dimension = old
  if method in ('d_simplex', 'hoc'):
    dimension = config[method].vertices - 1
    config.model.dimension = config.old.model.dimension = dimension
  return config


def time_method(
  arguments: argparse.Namespace, method: str
) -> tuple[np.ndarray, int, int]:
  """Times a method's step in turns with the plain one.

  Returns:
    The ratios, round by round; the bytes that the method keeps; and how many
    compilations came after the first step.
  """
  config = make_config(arguments, method)
  made_up = make_up(config, arguments.classes)
  steps = {}
  for name in ('independent', method):
    config.method = name
    run = Run(config.copy_and_resolve_references(), made_up.data, made_up.old)
    steps[name] = Step(run, made_up.batch)
    jax.block_until_ready(steps[name]())
  compilations = 0

  def count(event: str, duration_secs: float, **_: str | int) -> None:
    nonlocal compilations
    del duration_secs
    compilations += event == _COMPILED

  jax.monitoring.register_event_duration_secs_listener(count)
  seconds = time_in_turns(steps, arguments.rounds)
  jax.monitoring.clear_event_listeners()
  ratios = seconds[method] / seconds['independent']
  return ratios, steps[method].kept_bytes, compilations


def main() -> None:
  """Prints the comparison."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  others = [name for name in METHODS if name != 'independent']
  parser.add_argument('--methods', default=','.join(others))
  parser.add_argument('--architecture', default='resnet18')
  parser.add_argument('--image_size', type=int, default=64)
  parser.add_argument('--batch_size', type=int, default=64)
  parser.add_argument('--classes', type=int, default=1000)
  parser.add_argument('--rounds', type=int, default=15)
  arguments = parser.parse_args()
  print(
    f'{arguments.architecture}, {arguments.image_size} pixels, batch '
    f'{arguments.batch_size}, {arguments.classes} classes of 20 images, '
    f'{jax.device_count()} × {jax.devices()[0].device_kind}'
  )
  for method in arguments.methods.split(','):
    ratios, kept, compilations = time_method(arguments, method)
    print(
      f'{method:<16} {spread(ratios)} times as long as a plain step; '
      f'{kept / 2**20:.1f} MiB kept; {compilations} compilations more',
      flush=True,
    )


if __name__ == '__main__':
  main()
