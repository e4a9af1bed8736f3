"""`advbct` with the backbone of the tiny upgrade, which a signal may hit.

python -m tests.processes.tiny_command [--signal=NAME] [--before_step=N]
  [--chunk_rows=N] COMMAND …
"""

import argparse
from functools import partial
import os
import signal

from advbct_jax import commands
from advbct_jax.embeddings import sources
from advbct_jax.models.resnet import RESNETS
from advbct_jax.training.run import Run
from tests.tiny_upgrade import TINY


def _signal_before_step(number: int, step: int) -> None:
  """Has this process hit by a signal as it takes a batch of the new encoder."""
  batches = Run.batches

  def batches_with_signal(run, start):
    for taken, batch in enumerate(batches(run, start), start + 1):
      if run.old and taken == step:
        os.kill(os.getpid(), number)
      yield batch

  Run.batches = batches_with_signal


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--signal')
  parser.add_argument('--before_step', type=int)
  parser.add_argument('--chunk_rows', type=int)
  arguments, line = parser.parse_known_args()
  RESNETS['tiny'] = TINY
  if arguments.signal:
    _signal_before_step(signal.Signals[arguments.signal], arguments.before_step)
  if arguments.chunk_rows:
    sources.extract = partial(sources.extract, chunk_rows=arguments.chunk_rows)
  commands.main(line)


if __name__ == '__main__':
  main()
