"""What classes that are cut over devices save: memory and time of a train step.

  XLA_FLAGS=--xla_force_host_platform_device_count=4 \
    python -m benchmarks.class_shards [--classes=100000] [--rounds=15]

A small ResNet-18 with a classifier of many classes, all of them on every device
or cut into shards (config.shard_classes), takes steps in turns on as many
devices as there are; by these XLA_FLAGS four parts of one CPU stand for them.
Prints what a device holds between two steps, what it takes on top of that
during one, and milliseconds a step, medians and quartiles. Memory is what XLA
says of the compiled step; the same is printed of `--compiled_classes`, of which
nothing is run.
"""

import argparse
import functools
import pathlib

import jax
import numpy as np

from advbct_jax import parallel
from advbct_jax.class_shards import ClassShards
from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.data.pipeline import LoadBatch
from advbct_jax.training.run import Run, TrainingSet
from benchmarks.step_cost import Step
from benchmarks.timing import spread, time_in_turns
from configs import base

P = jax.sharding.PartitionSpec

_LAYOUTS = {'whole': False, 'cut': True}


def make_run(arguments: argparse.Namespace, classes: int, cut: bool) -> Run:
  """A run of the method `independent` on small images that nobody reads."""
  config = base.get_config()
  config.method = 'independent'
  config.shard_classes = cut
  config.batch_size = arguments.batch_size
  config.data.image_size = 16
  config.model.stem = 'small'
  config.model.width = 0.25
  config.model.dimension = arguments.dimension
  config.model.dtype = 'float32'
  image_set = ImageSet('made-up', [], ImageFiles(pathlib.Path(), []))
  rows = np.arange(max(classes, config.batch_size))
  labels = (rows % classes).astype(np.int32)
  load = LoadBatch(image_set, config.data.image_size)
  return Run(config, TrainingSet(load, rows, labels, classes), None)


def make_batch(run: Run) -> dict[str, np.ndarray]:
  """Noise, each image of another class."""
  random = np.random.default_rng(0)
  count, size = run.config.batch_size, run.config.data.image_size
  return {
    'image': random.integers(0, 256, (count, size, size, 3), np.uint8),
    'row': random.choice(len(run.data.rows), count, False).astype(np.int32),
  }


def memory(run: Run) -> tuple[int, int]:
  """Bytes a device between two steps, and on top during one, by XLA."""
  state = jax.eval_shape(functools.partial(run.fresh_state, run.class_layout))
  spec = P()
  if isinstance(run.class_layout, ClassShards):
    spec = run.class_layout.spec(state)
  placed = jax.tree.map(
    lambda array, spec: jax.ShapeDtypeStruct(
      array.shape, array.dtype, sharding=parallel.sharding(spec)
    ),
    state,
    jax.tree.broadcast(spec, state),
  )
  batch = run.complete_batch(make_batch(run))
  compiled = run.compiled_step().lower(placed, batch, *run.constants())
  analysis = compiled.compile().memory_analysis()
  return analysis.argument_size_in_bytes, analysis.temp_size_in_bytes


def main() -> None:
  """Prints the comparison."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--classes', type=int, default=100_000)
  parser.add_argument('--compiled_classes', type=int, default=1_000_000)
  parser.add_argument('--dimension', type=int, default=256)
  parser.add_argument('--batch_size', type=int, default=256)
  parser.add_argument('--rounds', type=int, default=15)
  arguments = parser.parse_args()
  devices = jax.device_count()
  print(f'{devices} × {jax.devices()[0].device_kind}, {arguments}')
  for classes in (arguments.classes, arguments.compiled_classes):
    for name, cut in _LAYOUTS.items():
      kept, taken = memory(make_run(arguments, classes, cut))
      print(
        f'{classes:,} classes, {name:<5}: a device holds {kept / 2**20:,.0f} '
        f'MiB, and takes {taken / 2**20:,.0f} MiB more in a step',
        flush=True,
      )
  steps = {}
  for name, cut in _LAYOUTS.items():
    run = make_run(arguments, arguments.classes, cut)
    steps[name] = Step(run, make_batch(run))
  seconds = time_in_turns(steps, arguments.rounds)
  for name in _LAYOUTS:
    print(f'{name:<5}: {spread(1000 * seconds[name], 0)} ms a step')
  print(f'cut / whole: {spread(seconds["cut"] / seconds["whole"])}')


if __name__ == '__main__':
  main()
