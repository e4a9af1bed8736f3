"""One job of a comparison: trains, then judges."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import ml_collections

from advbct_jax.adapters.adapter import save_adapter
from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.adapters.kinds import check_widths
from advbct_jax.comparison.grid import ADAPTER_POLICY, Job, stores_of
from advbct_jax.comparison.runner import is_done
from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.embeddings.named_stores import open_named_store
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.judge import judge, judge_refresh
from advbct_jax.locks import hold
from advbct_jax.training.aligned_start import check_independent_config
from advbct_jax.training.checked_images import load_checked_images
from advbct_jax.training.checkpoints import is_workdir
from advbct_jax.training.old_side import (
  check_old_encoder,
  embed_training_images,
  require_width,
)
from advbct_jax.training.run_stores import encoder_width
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
  encoder = _judged_encoder(job, root)
  # Cells at the same time then only read what was embedded here.
  if job.cell is None or job.is_adapted:
    images = open_training_images(config, check=False)
    embed_training_images(encoder, config, images)
  adapter = _fit(job, root, workdir / 'adapter') if job.adapter else None
  encoders = {
    'old': _old_encoder(job, root) if job.cell else None,
    'new': encoder,
  }
  retrieval_sets = open_retrieval_sets(
    config.evaluation.data,
    config.data.root,
    config.evaluation.crop_queries,
    config.data.max_pixels,
  )
  embedding: dict[str, Any] = {
    'batch_size': config.evaluation.batch_size,
    'workers': config.data.workers,
    'dtype': config.evaluation.dtype,
  }
  judge(
    encoders,
    retrieval_sets,
    workdir,
    adapter=adapter,
    cross=_compares(job),
    **embedding,
  )
  if job.policies:
    known = load_checked_images(config).image_set
    judge_refresh(
      encoders,
      retrieval_sets,
      [known] * len(retrieval_sets),
      workdir,
      [name for name in job.policies if name != ADAPTER_POLICY],
      # Another order for each seed, of which the tables have the mean.
      seeds=[job.seed],
      adapter=adapter,
      **embedding,
    )


def _old_encoder(job: Job, root: pathlib.Path) -> pathlib.Path:
  """Where the old encoder of a cell lies, trained here or given."""
  return root / job.old if job.old else pathlib.Path(job.config.old.path)


def _compares(job: Job) -> bool:
  """Whether vectors of the new encoder compare with old ones at all.

  Those of two given encoders may be of two widths.
  """
  if job.trains or job.adapter or job.needs:
    return True
  name = job.config.data.name
  widths = (job.config.data.features, job.config.old.path)
  new, old = (encoder_width(path, name) for path in widths)
  return new == old


def _judged_encoder(job: Job, root: pathlib.Path) -> pathlib.Path:
  """Where the new encoder lies, trained here or given."""
  return root / job.encoder if job.encoder else _features(job)


def _independent_encoder(job: Job, root: pathlib.Path) -> pathlib.Path:
  """Where the independent encoder of a training lies, trained here or given."""
  return root / job.independent if job.independent else _features(job)


def _features(job: Job) -> pathlib.Path:
  return pathlib.Path(job.config.data.features)


def _config_of(job: Job, root: pathlib.Path) -> ml_collections.ConfigDict:
  """A job's config, with the places of the encoders that it needs."""
  config = job.config.copy_and_resolve_references()
  if job.cell and job.trains:
    config.old.path = str(_old_encoder(job, root))
    independent = str(_independent_encoder(job, root))
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
          _judged_width(job),
          _old_width(job, configs),
          job.direction,
        )
      elif job.cell and job.trains:
        if job.old:
          check_old_encoder(job.config, configs[job.old])
        else:
          require_width(job.config, _old_width(job, configs))
        _check_stores(job.config)
        if job.config.model.init_weights == 'aligned':
          _check_aligned(job, configs)
    except InputError as error:
      raise InputError(f'{job.name}: {error}') from error


def _old_width(
  job: Job, configs: Mapping[str, ml_collections.ConfigDict]
) -> int:
  if job.old:
    return configs[job.old].model.dimension
  return encoder_width(job.config.old.path, job.config.data.name)


def _judged_width(job: Job) -> int:
  if job.encoder:
    return job.config.model.dimension
  return encoder_width(job.config.data.features, job.config.data.name)


def _check_aligned(
  job: Job, configs: Mapping[str, ml_collections.ConfigDict]
) -> None:
  if not job.independent:
    raise InputError(
      "config.model.init_weights is 'aligned', but config.data.features are "
      "vectors without weights to align; wanted: 'rotation', which turns them."
    )
  check_independent_config(
    job.config, configs[job.independent], job.independent
  )


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
  new, old = (
    _training_store(encoder, job.config.data.name)
    for encoder in (_judged_encoder(job, root), _old_encoder(job, root))
  )
  adapter = fit_adapter(
    job.adapter, new, old, seed=job.seed, direction=job.direction
  )
  save_adapter(adapter, path)
  return path


def _training_store(encoder: pathlib.Path, name: str) -> EmbeddingStore:
  stores = encoder / 'embeddings' if is_workdir(encoder) else encoder
  return open_named_store(stores, f'{name}-train')
