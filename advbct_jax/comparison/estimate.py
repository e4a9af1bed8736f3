"""What a comparison would run, and how long that may take."""

from collections.abc import Iterator, Sequence
import contextlib
import functools
import json
import os
import pathlib
import time

import jax
import ml_collections
import numpy as np

from advbct_jax.comparison.grid import Job
from advbct_jax.comparison.runner import Place, is_done, read_times
from advbct_jax.data import gldv2
from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.data.pipeline import LoadBatch, Loader
from advbct_jax.data.splits import split_training_set
from advbct_jax.embeddings.features import FeatureRows, find_features
from advbct_jax.models.backbones import takes_features
from advbct_jax.training.checkpoints import latest_step
from advbct_jax.training.run import Run, TrainingSet

_TIMED_STEPS = 3


def describe_jobs(
  jobs: Sequence[Job], root: pathlib.Path, places: Sequence[Place]
) -> str:
  """Says what would run.

  The time of a job is that of done ones with the same model, step for step, or
  where there is none that of a few steps taken here, on made-up images.

  Args:
    jobs: of the comparison.
    root: its folder.
    places: where jobs run.

  Returns:
    A line a job, and the sum.

  Raises:
    InputError: if the training images cannot be found.
  """
  steps = {
    job.name: _count_steps(job.config) if job.trains else 0 for job in jobs
  }
  taken = read_times(root)
  rates = _measured_rates(jobs, root, steps, taken)
  lines, left = [], 0.0
  for job in jobs:
    done = latest_step(root / job.name) or 0
    if is_done(root, job):
      lines.append(f'{job.name:<48} done')
      continue
    seconds = 0.0
    if job.trains:
      key = _cost_key(job.config)
      if key not in rates:
        print(f'timing {_TIMED_STEPS} steps of {job.config.model.architecture}')
        with _on_cores(places[0].cores):
          rates[key] = _time_steps(job.config)
      seconds = rates[key] * (steps[job.name] - done)
    left += seconds
    state = f'{steps[job.name] - done:>6} steps' if job.trains else 'judging'
    lines.append(f'{job.name:<48} {state:<12} {seconds / 60:7.1f} min')
  finished = sum(is_done(root, job) for job in jobs)
  lines.append(
    f'{len(jobs)} jobs, {finished} of them done; about {left / 60:.0f} minutes '
    f'of training one after the other, {left / 60 / len(places):.0f} with '
    f'{len(places)} at a time; judging comes on top'
  )
  return '\n'.join(lines)


# A grid has hundreds of jobs on one table, of a million rows in GLDv2.
@functools.cache
def _read_labels(root: str, name: str) -> np.ndarray:
  labels = gldv2.load_train(pathlib.Path(root), name).labels
  assert labels is not None
  return labels


@contextlib.contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
  """Keeps this process to the cores that a job will have; none for all."""
  if not cores:
    yield
    return
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, cores)
  try:
    yield
  finally:
    # What the process starts later inherits this, and would round otherwise.
    os.sched_setaffinity(0, before)


def _count_steps(config: ml_collections.ConfigDict) -> int:
  """How many steps a training takes."""
  labels = _read_labels(config.data.root, config.data.name)
  split = split_training_set(labels, **config.data.split)
  count = len(split.old_rows if config.data.part == 'old' else split.new_rows)
  # The training leaves out the images of an epoch that fill no batch.
  return config.epochs * (count // config.batch_size)


def _cost_key(config: ml_collections.ConfigDict) -> str:
  """What a step's cost depends on, but for the small share of the method."""
  return json.dumps(
    [
      {**config.model.to_dict(), 'init_weights': ''},
      config.data.image_size,
      config.data.augmentation,
      config.batch_size,
    ]
  )


def _measured_rates(
  jobs: Sequence[Job],
  root: pathlib.Path,
  steps: dict[str, int],
  taken: dict[str, float],
) -> dict[str, float]:
  """Seconds a step, by `_cost_key`, over the jobs that are done."""
  sums: dict[str, np.ndarray] = {}
  for job in jobs:
    if job.trains and is_done(root, job) and taken.get(job.name):
      key = _cost_key(job.config)
      of_job = np.array([taken[job.name], steps[job.name]])
      sums[key] = sums.get(key, np.zeros(2)) + of_job
  return {key: seconds / count for key, (seconds, count) in sums.items()}


def _time_steps(config: ml_collections.ConfigDict) -> float:
  """Seconds of a step of a config, on made-up things, compilation aside."""
  config = config.copy_and_resolve_references()
  # A method's own share of a step is small, and it would ask for an old side.
  config.method = 'independent'
  config.model.init_weights = ''
  count = config.batch_size
  labels = np.arange(count, dtype=np.int32)
  load, things = _make_up(config)
  data = TrainingSet(load, labels, labels, count)
  run = Run(config, data, None)
  step = run.compiled_step()
  constants = run.constants()
  state = run.initial_state()
  batch = run.complete_batch({'image': things, 'row': labels})
  state, _ = jax.block_until_ready(step(state, batch, *constants))
  began = time.perf_counter()
  for _ in range(_TIMED_STEPS):
    state, _ = jax.block_until_ready(step(state, batch, *constants))
  return (time.perf_counter() - began) / _TIMED_STEPS


def _make_up(config: ml_collections.ConfigDict) -> tuple[Loader, np.ndarray]:
  """A loader of the right shape, and a batch as it would give one."""
  random = np.random.default_rng(0)
  size, count = config.data.image_size, config.batch_size
  if not takes_features(config.model.architecture):
    image_set = ImageSet('made-up', [], ImageFiles(pathlib.Path(), []))
    images = random.integers(0, 256, (count, size, size, 3), np.uint8)
    return LoadBatch(image_set, size), images
  image_set = gldv2.load_train(pathlib.Path(config.data.root), config.data.name)
  nowhere = pathlib.Path()  # nothing is laid out, since nothing is read
  features = find_features(
    pathlib.Path(config.data.features), image_set, nowhere
  )
  load = FeatureRows(
    image_set, features, features.open_store(image_set), np.arange(0)
  )
  width = features.dimension
  return load, random.normal(size=(count, width)).astype(np.float32)
