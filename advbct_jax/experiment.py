"""An experiment from its config: trains an upgrade, then judges it."""

from functools import partial
import json
import pathlib
from typing import Any

import ml_collections

from advbct_jax import processes
from advbct_jax.convert.vector_folders import find_stores
from advbct_jax.data.configured_sets import open_data, require_root
from advbct_jax.data.images import ImageSet
from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.embeddings.store import UNSAID_COMPUTE_DTYPE
from advbct_jax.errors import DivergedError, StoppedError
from advbct_jax.frozen_encoder import embed_by_weights
from advbct_jax.header_sizes import allow_headers
from advbct_jax.judge import (
  VECTORS,
  has_embeddings,
  judge,
  print_judgement,
)
from advbct_jax.methods import find_method
from advbct_jax.models.backbones import takes_features
from advbct_jax.monitor import Monitor
from advbct_jax.training.checked_images import load_checked_images
from advbct_jax.training.checkpoints import (
  find_damaged,
  latest_step,
  read_config,
)
from advbct_jax.training.config_checks import check_config
from advbct_jax.training.curves import plot_curves
from advbct_jax.training.old_side import old_path
from advbct_jax.training.run_stores import encoder_width
from advbct_jax.training.upgrade import train_upgrade
from advbct_jax.training.workdir import require_same_run
from advbct_jax.weights.hub import names_weights

# Where encoders of files of weights lie, by what they are taken for.
ENCODERS = 'encoders'


def train_and_judge(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
  """Trains and judges, or prints the result where that is done.

  Args:
    config: of the experiment.
    workdir: where everything goes.
  """
  processes.require_same('the config', f'{config.to_json()} {workdir}')
  config = settle_vectors(config, workdir)
  # What lies in the workdir changes while the others look at it.
  if results := processes.from_first(
    lambda: _finished_results(config, workdir)
  ):
    processes.say(f'{workdir}: all done')
    print_judgement(results, workdir)
    return
  check_config(config)
  retrieval_sets = open_data(config)
  old = None
  if find_method(config.method).needs_old_model:
    path = old_path(config, workdir)
    selections = workdir / 'embeddings' / 'old'
    if not config.old.path or processes.from_first(
      lambda: has_embeddings(
        path, retrieval_sets, f'{config.data.name}-train', selections
      )
    ):
      old = path
  monitor = None
  if config.evaluation.every_epochs and retrieval_sets:
    monitor = Monitor(retrieval_sets, config, old)
  try:
    train_upgrade(config, workdir, monitor)
  except (DivergedError, StoppedError):
    processes.from_first(partial(plot_curves, workdir))  # which may say why
    raise
  processes.from_first(partial(plot_curves, workdir))
  if not retrieval_sets:
    processes.say(
      'config.evaluation.data names no data set, so nothing is judged'
    )
    return
  results = judge(
    {'old': old, 'new': workdir},
    retrieval_sets,
    workdir,
    batch_size=config.evaluation.batch_size,
    workers=config.data.workers,
    dtype=config.evaluation.dtype,
  )
  print_judgement(results, workdir)


def settle_vectors(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> ml_collections.ConfigDict:
  """Settles what a config leaves open until the vectors that it names are seen.

  Files of vectors become stores, for training opens nothing else; of files of
  weights the vectors are made first; and where `config.model.dimension` is 0 a
  head is as wide as what it is tied to. It is the first to open files, so the
  config's bound of headers holds from here on.

  Args:
    config: of the experiment.
    workdir: whose folder `vectors` gets the stores, and `encoders` the encoders
      of the weights with what they say of the data.

  Returns:
    The config, with the stores in the place of the files.

  Raises:
    InputError: if the vectors or the weights cannot be used.
  """
  config = config.copy_and_resolve_references()
  allow_headers(config.data.max_header_bytes)

  def stored(path: str, name: str, image_size: int = 0) -> str:
    if not path:
      return path
    if not names_weights(path):
      place = workdir / VECTORS / name
      return str(
        processes.from_first(lambda: find_stores(pathlib.Path(path), place))
      )
    stores = embed_by_weights(
      path,
      workdir / ENCODERS / name,
      _image_sets(config),
      image_size=image_size or config.data.image_size,
      batch_size=config.evaluation.batch_size,
      workers=config.data.workers,
      dtype=config.evaluation.dtype,
    )
    return str(stores)

  config.old.path = stored(config.old.path, 'old', config.old.image_size)
  config.data.features = stored(config.data.features, 'features')
  for name, path in config.stores.items():
    config.stores[name] = stored(path, name)
  if not config.model.dimension and takes_features(config.model.architecture):
    tied = find_method(config.method).needs_old_model and config.old.path
    config.model.dimension = encoder_width(
      tied or config.data.features, config.data.name
    )
  return config


def _image_sets(config: ml_collections.ConfigDict) -> list[ImageSet]:
  """All that an experiment asks of an encoder."""
  require_root(config)
  sets = open_retrieval_sets(
    config.evaluation.data,
    config.data.root,
    config.evaluation.crop_queries,
    config.data.max_pixels,
  )
  return [
    load_checked_images(config).image_set,
    *(part for one in sets for part in (one.gallery, one.queries)),
  ]


def _finished_results(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any] | None:
  """The results of a workdir, if they are what the config asks for.

  Where data or old encoder have moved, they may be others: then everything is
  opened and compared again, which costs little where nothing is left to do.

  Raises:
    InputError: if the workdir is that of another config.
  """
  step = latest_step(workdir)
  if step is None:
    return None
  require_same_run(workdir, config)
  path = workdir / 'results.json'
  if not path.exists() or not (workdir / 'report.md').exists():
    return None
  if find_damaged(workdir, step):
    return None  # The training goes on from the checkpoint before.
  before = read_config(workdir)
  if (before.data.root, before.old.path) != (config.data.root, config.old.path):
    return None
  results = json.loads(path.read_text('utf-8'))
  names = [spec.partition(':')[0] for spec in config.evaluation.data]
  same_protocol = all(
    facts['query_crop'] == config.evaluation.crop_queries
    for facts in results['protocol'].values()
    if facts.get('kind') == 'revisited'
  )
  # An old encoder that could not be judged then may have its vectors now.
  both = (
    'old' in results['encoders']
    or not find_method(config.method).needs_old_model
  )
  new = results['encoders']['new']
  same_dtype = (
    new.get('compute_dtype', UNSAID_COMPUTE_DTYPE) == config.evaluation.dtype
  )
  same_sets = list(results['datasets']) == names
  wanted = same_sets and same_protocol and both and same_dtype
  return results if wanted else None
