"""What a step over two processes costs by `jax.pmap` and by `jax.shard_map`.

The step does next to nothing with a state of as many arrays as ResNet-50's
training has, so that what is timed is what each way of mapping does around it.
Two processes of two devices each run on this machine, on its CPU.

    python -m benchmarks.process_steps
"""

import argparse
from collections.abc import Callable
from functools import partial
import os
import socket
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np

from advbct_jax import parallel, processes
from benchmarks.timing import spread

_DEVICES = 2


def take_step(state: Any, batch: Any, old: Any, key: Any) -> tuple[Any, Any]:
  """Adds the mean of the batch to every array."""
  del old, key
  mean = jax.lax.pmean(batch.mean(), parallel.AXIS)
  return jax.tree.map(lambda x: x + mean, state), mean


def by_shard_map() -> tuple[Callable, Callable]:
  """The step as one program over all devices, and what its arguments become.

  State and batch stay arrays over the devices of all processes.
  """
  mesh = jax.sharding.Mesh(np.array(jax.devices()), (parallel.AXIS,))
  everywhere = jax.sharding.PartitionSpec()
  pieces = jax.sharding.PartitionSpec(parallel.AXIS)
  mapped = jax.shard_map(
    take_step,
    mesh=mesh,
    in_specs=(everywhere, pieces, everywhere, everywhere),
    out_specs=(everywhere, everywhere),
    check_vma=False,
  )

  def cut(batch: np.ndarray) -> jax.Array:
    sharding = jax.sharding.NamedSharding(mesh, pieces)
    return jax.make_array_from_process_local_data(sharding, batch)

  return jax.jit(mapped, donate_argnums=0), cut


def core_seconds(
  step: Callable, cut: Callable, state: Any, batch: np.ndarray, steps: int
) -> tuple[float, Any]:
  """The mean core-seconds of this process for a step, and the state after."""
  start = time.process_time()
  for _ in range(steps):
    state, mean = step(state, cut(batch), None, None)
    mean.block_until_ready()
  return (time.process_time() - start) / steps, state


def measure(arguments: argparse.Namespace) -> None:
  """Times both ways in turns, in a process of the pair."""
  processes.start(arguments.coordinator, 2, arguments.process)
  batch = np.ones((8, 4), np.float32)
  arrays = {str(at): np.ones(64) for at in range(arguments.arrays)}
  state = parallel.replicate(arrays)
  ways = {
    'pmap': (parallel.map_step(take_step), parallel.shard, state),
    'shard_map': (
      *by_shard_map(),
      parallel.as_global(parallel.replicate(arrays)),
    ),
  }
  seconds: dict[str, list[float]] = {name: [] for name in ways}
  for _ in range(arguments.rounds + 1):
    for name, (step, cut, state) in ways.items():
      took, state = core_seconds(step, cut, state, batch, arguments.steps)
      ways[name] = step, cut, state
      seconds[name].append(took)
  for name, values in seconds.items():
    processes.say(f'{name:<10} {spread(1000 * np.array(values[1:]), 1)} ms')
  processes.leave()


def main() -> None:
  """Starts the pair, or is one of it."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--arrays', type=int, default=480)
  parser.add_argument('--steps', type=int, default=20)
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--coordinator')
  parser.add_argument('--process', type=int)
  arguments = parser.parse_args()
  if arguments.coordinator:
    measure(arguments)
    return
  with socket.socket() as place:
    place.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{place.getsockname()[1]}'
  print(
    f'core-seconds of one process for a step, {arguments.arrays} arrays, 2 '
    f'processes of {_DEVICES} devices'
  )
  start = partial(
    subprocess.Popen,
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={_DEVICES}',
    },
  )
  line = [sys.executable, '-m', 'benchmarks.process_steps', *sys.argv[1:]]
  pair = [
    start([*line, f'--coordinator={address}', f'--process={process}'])
    for process in range(2)
  ]
  sys.exit(max(abs(process.wait()) for process in pair))


if __name__ == '__main__':
  main()
