"""The retrieval sets that a config names, found before anything is trained."""

from functools import partial

import ml_collections

from advbct_jax import processes
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.data.image_checks import check_images
from advbct_jax.data.images import ImageSet
from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.data.worker_processes import require_shared_memory
from advbct_jax.drawn_landmarks.data_set import draw_landmarks
from advbct_jax.errors import InputError
from advbct_jax.models.backbones import takes_features


def open_data(
  config: ml_collections.ConfigDict, flag: str = 'config'
) -> list[RetrievalSet]:
  """Draws the data if the config says so, and opens what to judge on.

  That comes before the training, so that no ground truth is found to be wrong
  after it.

  Args:
    config: of an experiment.
    flag: by which command-line flag its fields are set.

  Returns:
    The retrieval sets of `config.evaluation.data`.

  Raises:
    InputError: if there is no data root, something in it cannot be used, or
      the machine has no room for the workers that decode it.
  """
  require_root(config, flag)
  if config.data.drawing:
    processes.from_first(
      lambda: draw_landmarks(config.data.root, **config.data.drawing)
    )
  retrieval_sets = open_retrieval_sets(
    config.evaluation.data,
    config.data.root,
    config.evaluation.crop_queries,
    config.data.max_pixels,
  )
  if takes_features(config.model.architecture):
    return retrieval_sets
  for retrieval_set in retrieval_sets:
    for image_set in (retrieval_set.queries, retrieval_set.gallery):
      processes.from_first(partial(check_images, image_set))
      _require_room(config, image_set)
  return retrieval_sets


def require_root(
  config: ml_collections.ConfigDict, flag: str = 'config'
) -> None:
  """Refuses a config that names no data.

  Args:
    config: of an experiment.
    flag: by which command-line flag its fields are set.

  Raises:
    InputError: if there is no data root.
  """
  if not config.data.root:
    raise InputError(
      f'{flag}.data.root is empty; wanted: the folder with train_clean.csv. '
      f'Say --{flag}.data.root=FOLDER.'
    )


def _require_room(
  config: ml_collections.ConfigDict, image_set: ImageSet
) -> None:
  """Refuses workers whose batches of a set don't fit into shared memory."""
  batch_size = min(config.evaluation.batch_size, len(image_set))
  if config.data.workers:
    require_shared_memory(
      batch_size * config.data.image_size**2 * 3,
      config.data.workers,
      batches=-(-len(image_set) // batch_size),
    )
