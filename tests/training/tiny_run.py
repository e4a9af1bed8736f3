"""Runs the tiny upgrade in a process of its own, and dies where told.

After each step it says how much was compiled so far.

python -m tests.training.tiny_run LANDMARKS WORKDIR [--old=PATH]
  [--killed_before_step=N] [--killed_after_chunk=N]
"""

import argparse
from functools import partial
import os
import pathlib
import signal

import jax

from advbct_jax.embeddings import sources
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.models.resnet import RESNETS
from advbct_jax.training import upgrade
from advbct_jax.training.logging import MetricsLog
from advbct_jax.training.run import Run
from tests.tiny_upgrade import TINY, tiny_config


def _die() -> None:
  os.kill(os.getpid(), signal.SIGKILL)


def _die_before_step(step: int) -> None:
  """Has the new encoder's run killed when it takes the batch of a step."""
  steps = iter(range(1, step + 1))
  complete = Run.complete_batch

  def complete_batch(run, batch):
    if run.old and next(steps) == step:
      _die()
    return complete(run, batch)

  Run.complete_batch = complete_batch


def _die_after_chunk(chunk: int) -> None:
  """Has the extraction killed when it has written a chunk of 8 images.

  That is a batch: an image's place in its batch may decide its last digit.
  """
  write = EmbeddingStore.write_chunk

  def write_chunk(store, number, embeddings):
    write(store, number, embeddings)
    if number == chunk:
      _die()

  EmbeddingStore.write_chunk = write_chunk
  sources.extract = partial(sources.extract, chunk_rows=8)


def _count_compilations() -> None:
  """Prints, at every step that is logged, how much was compiled so far."""
  compiled = []
  add = MetricsLog.add

  def listen(event, seconds, **unused):
    if event == '/jax/core/compile/backend_compile_duration':
      compiled.append(event)

  def print_and_add(log, step, metrics):
    print(f'step {step}: {len(compiled)} compiled')
    add(log, step, metrics)

  jax.monitoring.register_event_duration_secs_listener(listen)
  MetricsLog.add = print_and_add


def main() -> None:
  """Trains, without the evaluation."""
  parser = argparse.ArgumentParser()
  parser.add_argument('landmarks', type=pathlib.Path)
  parser.add_argument('workdir', type=pathlib.Path)
  parser.add_argument('--old', default='')
  parser.add_argument('--killed_before_step', type=int)
  parser.add_argument('--killed_after_chunk', type=int)
  arguments = parser.parse_args()
  RESNETS['tiny'] = TINY
  config = tiny_config(arguments.landmarks)
  config.old.path = arguments.old
  config.checkpoint.every_steps = 2
  _count_compilations()
  if arguments.killed_before_step:
    _die_before_step(arguments.killed_before_step)
  if arguments.killed_after_chunk is not None:
    _die_after_chunk(arguments.killed_after_chunk)
  upgrade.train_upgrade(config, arguments.workdir)


if __name__ == '__main__':
  main()
