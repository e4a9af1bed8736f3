"""How many vectors a second a linear head is trained on.

  python -m benchmarks.head_speed --width=768 --dimension=384

The step is the one that training takes (L2, classification, metrics, AdamW),
on vectors in memory. Beside it stands the same loss in PyTorch, where that is
installed, without the metrics. Vectors a core-second tell more where others
compute on the same machine.
"""

import argparse
import contextlib
import pathlib
import tempfile
import time

import jax
import numpy as np

from advbct_jax.api import make_store
from advbct_jax.data.images import ImageSet, NoPictures
from advbct_jax.data.splits import split_training_set
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.embeddings.features import find_features
from advbct_jax.methods.method import OldModel, OldSide
from advbct_jax.training.run import Run, TrainingSet
from configs import vectors

_CLASSES = 64


def main() -> None:
  """Prints both rates."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--width', type=int, default=768)
  parser.add_argument('--dimension', type=int, default=384)
  parser.add_argument('--batch_size', type=int, default=512)
  parser.add_argument('--steps', type=int, default=100)
  flags = parser.parse_args()
  count = 8 * flags.batch_size
  random = np.random.default_rng(0)
  new = random.normal(size=(count, flags.width)).astype(np.float32)
  old = random.normal(size=(count, flags.dimension)).astype(np.float32)
  labels = np.arange(count) % _CLASSES
  with tempfile.TemporaryDirectory() as folder:
    run = _make_run(pathlib.Path(folder), new, old, labels, flags.batch_size)
    times = _time_ours(run, flags.steps)
  trained = flags.steps * flags.batch_size
  _print_rates('step, data included', trained, times)
  with contextlib.suppress(ImportError):
    times = _time_pytorch(new, old, labels, flags.batch_size, flags.steps)
    _print_rates('PyTorch', trained, times)


def _print_rates(what: str, trained: int, times: np.ndarray) -> None:
  second, core_second = trained / times
  print(
    f'{what:24} {second:12,.0f} vectors/s {core_second:12,.0f} a core-second'
  )


def _now() -> np.ndarray:
  """Seconds by the clock, and of all cores together."""
  return np.array([time.perf_counter(), time.process_time()])


def _make_run(
  folder: pathlib.Path,
  new: np.ndarray,
  old: np.ndarray,
  labels: np.ndarray,
  batch_size: int,
) -> Run:
  config = vectors.get_config()
  config.data.features = str(folder / 'train')
  config.model.dimension = old.shape[1]
  config.model.init_weights = ''
  config.batch_size = batch_size
  ids = [str(row) for row in range(len(new))]
  make_store(folder / 'train', new, ids, 'made up')
  things = ImageSet('made-up-train', ids, NoPictures(folder, len(ids)))
  features = find_features(folder / 'train', things, folder)
  split = split_training_set(labels, 'extended_class', 0.5, 0)
  statistics = class_statistics(old, split.old_labels, split.old_classes)
  return Run(
    config,
    TrainingSet(
      features.loader(things),
      np.arange(len(ids)),
      split.labels,
      split.classes,
    ),
    OldSide(
      old, split.labels, split.old_labels, OldModel(statistics, split.old_class)
    ),
  )


def _time_ours(run: Run, steps: int) -> np.ndarray:
  step, constants = run.compiled_step(), run.constants()
  state = run.fresh_state(run.class_layout)
  batches = run.batches(start=0)
  for number in range(-5, steps):
    if number == 0:
      jax.block_until_ready(state)
      started = _now()
    batch = run.complete_batch(next(batches))
    state, _ = step(state, batch, *constants)
  jax.block_until_ready(state)
  times = _now() - started
  batches.close()
  return times


def _time_pytorch(
  new: np.ndarray,
  old: np.ndarray,
  labels: np.ndarray,
  batch_size: int,
  steps: int,
) -> np.ndarray:
  import torch
  from torch.nn import functional

  head = torch.nn.Linear(new.shape[1], old.shape[1])
  classifier = torch.nn.Linear(old.shape[1], _CLASSES, bias=False)
  optimizer = torch.optim.AdamW([*head.parameters(), *classifier.parameters()])
  arrays = [torch.from_numpy(each) for each in (new, old, labels)]
  for number in range(-5, steps):
    if number == 0:
      started = _now()
    rows = torch.randint(len(new), (batch_size,))
    x, known, label = (array[rows] for array in arrays)
    embeddings = head(functional.normalize(x) * new.shape[1] ** 0.5)
    tie = functional.normalize(embeddings) - functional.normalize(known)
    loss = functional.cross_entropy(classifier(embeddings), label)
    loss = loss + 10 * tie.norm(dim=1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
  return _now() - started


if __name__ == '__main__':
  main()
