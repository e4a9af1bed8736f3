"""One job of a comparison: trains, then judges."""

from collections.abc import Sequence
import pathlib

import ml_collections

from advbct_jax.adapters.adapter import save_adapter
from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.adapters.kinds import check_widths, find_kind
from advbct_jax.comparison.grid import Job, stores_of
from advbct_jax.comparison.runner import is_done
from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.embeddings.store import open_store
from advbct_jax.errors import InputError
from advbct_jax.judge import judge
from advbct_jax.locks import hold
from advbct_jax.training.aligned_start import check_independent_config
from advbct_jax.training.old_side import (
  check_old_encoder,
  embed_training_images,
)
from advbct_jax.training.training_images import open_training_images
from advbct_jax.training.upgrade import train_upgrade
from advbct_jax.training.workdir import require_same_run


def run_job(job: Job, root: pathlib.Path) -> None:
  """Does a job, or what is left of it.

  A shared encoder also embeds the training images and what it is judged on, so
  that cells at the same time only read its stores.

  Args:
    job: what to do; the jobs that it needs are done.
    root: the comparison's folder.

  Raises:
    InputError: if something that its config names cannot be used, or another
      process is at it.
  """
  workdir = root / job.name
  # One that a killed comparison has left may be at it still.
  with hold(workdir, f'does {job.name}'):
    _run_job(job, root, workdir)


def _run_job(job: Job, root: pathlib.Path, workdir: pathlib.Path) -> None:
  config = _config_of(job, root)
  if job.trains:
    train_upgrade(config, workdir)
  encoder = workdir if job.trains else root / job.independent
  # Cells at the same time then only read what a shared encoder has embedded.
  if job.cell is None:
    images = open_training_images(config, check=False)
    embed_training_images(encoder, config, images)
  adapter = _fit(job, root, workdir / 'adapter') if job.adapter else None
  judge(
    {
      'old': root / job.old if job.cell else None,
      'new': encoder,
    },
    open_retrieval_sets(
      config.evaluation.data, config.data.root, config.evaluation.crop_queries
    ),
    workdir,
    batch_size=config.evaluation.batch_size,
    workers=config.data.workers,
    dtype=config.evaluation.dtype,
    adapter=adapter,
  )


def _config_of(job: Job, root: pathlib.Path) -> ml_collections.ConfigDict:
  """A job's config, with the places of the encoders that it needs."""
  config = job.config.copy_and_resolve_references()
  if job.cell and job.trains:
    config.old.path = str(root / job.old)
    independent = str(root / job.independent)
    if config.model.init_weights == 'aligned':
      config.aligned.path = independent
    if 'independent' in stores_of(config):
      # A method may declare stores of which the config's file knows nothing.
      with config.unlocked():
        config.update({'stores': {'independent': independent}})
  return config


def check_jobs(jobs: Sequence[Job]) -> None:
  """Refuses what cannot work, as far as configs tell, before any training.

  Args:
    jobs: that will be run.

  Raises:
    InputError: naming the job.
  """
  configs = {job.name: job.config for job in jobs}
  for job in jobs:
    try:
      if job.adapter:
        check_widths(
          job.adapter,
          job.config.model.dimension,
          configs[job.old].model.dimension,
          find_kind(job.adapter).directions[0],
        )
      elif job.cell and job.trains:
        check_old_encoder(job.config, configs[job.old])
        _check_stores(job.config)
        if job.config.model.init_weights == 'aligned':
          check_independent_config(
            job.config, configs[job.independent], job.independent
          )
    except InputError as error:
      raise InputError(f'{job.name}: {error}') from error


def _check_stores(config: ml_collections.ConfigDict) -> None:
  # The independent encoder is trained beside the cell, wherever it lies.
  given = {**config.get('stores', {}), 'independent': True}
  for store in stores_of(config):
    if not given.get(store):
      raise InputError(
        f'the method {config.method} reads the store {store!r}, which no '
        'training of a comparison fills; wanted: its folder in '
        f'config.base.stores.{store}.'
      )


def require_same_jobs(jobs: Sequence[Job], root: pathlib.Path) -> None:
  """Refuses to mix trainings of two configs in one comparison.

  Args:
    jobs: that will be run, or are done and will not.
    root: the comparison's folder.

  Raises:
    InputError: if a training that is done was by another config.
  """
  for job in jobs:
    if job.trains and is_done(root, job):
      require_same_run(root / job.name, job.config)


def _fit(job: Job, root: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """Fits the cell's adapter to the stores of the training images."""
  # So that nothing that is judged on is among the pairs.
  name = f'embeddings/{job.config.data.name}-train'
  new, old = (
    open_store(root / encoder / name) for encoder in (job.independent, job.old)
  )
  save_adapter(fit_adapter(job.adapter, new, old, seed=job.seed), path)
  return path
