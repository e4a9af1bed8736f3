"""One job of a benchmark: trains, then judges."""

from collections.abc import Sequence
import pathlib

from advbct_jax.adapters.adapter import save_adapter
from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.benchmark.grid import Job
from advbct_jax.benchmark.runner import is_done
from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.embeddings.store import open_store
from advbct_jax.judge import judge
from advbct_jax.training.old_side import embed_training_images
from advbct_jax.training.training_images import open_training_images
from advbct_jax.training.upgrade import train_upgrade
from advbct_jax.training.workdir import require_same_run


def run_job(job: Job, root: pathlib.Path) -> None:
  """Does a job, or what is left of it.

  A shared encoder also embeds the training images and what it is judged on, so
  that cells at the same time only read its stores.

  Args:
    job: what to do; the jobs that it needs are done.
    root: the benchmark's folder.

  Raises:
    InputError: if something that its config names cannot be used.
  """
  config, workdir = job.config.copy_and_resolve_references(), root / job.name
  if job.cell and job.trains:
    config.old.path = str(root / job.old)
    if job.independent:
      config.aligned.path = str(root / job.independent)
  if job.trains:
    train_upgrade(config, workdir)
  encoder = workdir if job.trains else root / job.independent
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
    adapter=adapter,
  )


def require_same_jobs(jobs: Sequence[Job], root: pathlib.Path) -> None:
  """Refuses to mix trainings of two configs in one benchmark.

  Args:
    jobs: that will be run, or are done and will not.
    root: the benchmark's folder.

  Raises:
    InputError: if a training that is done was by another config.
  """
  for job in jobs:
    if job.trains and is_done(root, job):
      require_same_run(root / job.name, job.config)


def _fit(job: Job, root: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """Fits the cell's adapter to the stores of the training images."""
  name = f'embeddings/{job.config.data.name}-train'
  new, old = (
    open_store(root / encoder / name) for encoder in (job.independent, job.old)
  )
  save_adapter(fit_adapter(job.adapter, new, old, seed=job.seed), path)
  return path
