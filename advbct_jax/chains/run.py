"""A chain of upgrades from its config: trains its steps, then the matrix."""

from collections.abc import Sequence
import pathlib

import ml_collections

from advbct_jax.chains.matrix import measure_chain
from advbct_jax.chains.means import write_mean
from advbct_jax.chains.report import write_chain
from advbct_jax.chains.steps import (
  MEAN,
  Step,
  check_steps,
  make_steps,
  naming,
)
from advbct_jax.data import gldv2
from advbct_jax.data.configured_sets import open_data
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.embeddings.sources import Source, store_name
from advbct_jax.errors import InputError
from advbct_jax.experiment import train_and_judge
from advbct_jax.header_sizes import allow_headers
from advbct_jax.judge import VECTORS, has_embeddings, open_encoder
from advbct_jax.training.summary import summarize


def run_chain(config: ml_collections.ConfigDict, root: pathlib.Path) -> None:
  """Trains and judges the steps of a chain, or what is left of them.

  Args:
    config: with `base` and `steps`; see configs/chain_glyphs.py.
    root: where everything goes; step N to its folder N.

  Raises:
    InputError: if something that the config names cannot be used.
  """
  allow_headers(config.base.data.max_header_bytes)
  retrieval_sets = _open_sets(config)
  steps = make_steps(config, root)
  check_steps(steps)
  _require_embeddings(steps, retrieval_sets, config.base.data.name, root)
  sources: list[Source] = []
  for step in steps:
    if step.config is not None:
      print(f'\nstep {step.number} of {len(steps)}')
      if step.mean_of:
        _write_means(step, sources, config.base, retrieval_sets)
      with naming(step.number):
        train_and_judge(step.config, step.path)
    sources.append(_open_step(step, config.base, root))
  print(f'\n{write_chain(measure_chain(sources, retrieval_sets), steps, root)}')
  print(f'report: {root / "chain.md"}')


def _write_means(
  step: Step,
  sources: Sequence[Source],
  base: ml_collections.ConfigDict,
  retrieval_sets: Sequence[RetrievalSet],
) -> None:
  """Makes the old encoder of a step that is tied to the mean of all before.

  It has vectors of what is judged on as well, so that the step's own report
  holds it against them.
  """
  data = base.data
  image_sets = [gldv2.load_train(pathlib.Path(data.root), data.name)]
  for retrieval_set in retrieval_sets:
    image_sets += [retrieval_set.queries, retrieval_set.gallery]
  for image_set in image_sets:
    stores = [source(image_set) for source in sources]
    with naming(step.number):
      write_mean(stores, step.path / MEAN / store_name(image_set))


def _open_step(
  step: Step, base: ml_collections.ConfigDict, root: pathlib.Path
) -> Source:
  """What a step that is given or trained says of images."""
  evaluation = base.evaluation
  with naming(step.number):
    return open_encoder(
      step.path,
      root / 'embeddings' / str(step.number),
      root / VECTORS / str(step.number),
      batch_size=evaluation.batch_size,
      workers=base.data.workers,
      dtype=evaluation.dtype,
    )


def describe_chain(
  config: ml_collections.ConfigDict, root: pathlib.Path
) -> str:
  """Builds what the trainings need, and says what they would do.

  Args:
    config: of the chain.
    root: where everything would go.

  Raises:
    InputError: as the chain itself would.
  """
  allow_headers(config.base.data.max_header_bytes)
  retrieval_sets = _open_sets(config)
  steps = make_steps(config, root)
  runs = check_steps(steps)
  _require_embeddings(steps, retrieval_sets, config.base.data.name, root)
  texts = [
    f'step {step.number}: {step.path}'
    + (f', tied to {step.tie}' if step.tie else '')
    for step in steps
  ]
  # Only a first one may be given, and need no training.
  for place, run in enumerate(runs, start=len(steps) - len(runs)):
    texts[place] += f'\n{summarize(run, run.data.load.image_set.name)}'
  return '\n\n'.join(texts)


def _open_sets(config: ml_collections.ConfigDict) -> list[RetrievalSet]:
  """The retrieval sets, before anything is trained."""
  retrieval_sets = open_data(config.base, 'config.base')
  if not retrieval_sets:
    raise InputError(
      'config.base.evaluation.data names no data set, so there would be no '
      'matrix; wanted: one at least.'
    )
  return retrieval_sets


def _require_embeddings(
  steps: Sequence[Step],
  retrieval_sets: Sequence[RetrievalSet],
  data_name: str,
  root: pathlib.Path,
) -> None:
  """Refuses a given encoder without vectors of what is judged on."""
  given = steps[0]
  if given.config is None and not has_embeddings(
    given.path, retrieval_sets, f'{data_name}-train', root / 'embeddings' / '1'
  ):
    raise InputError(
      f'{given.path}: it has no vectors of all queries and galleries, but is '
      "the chain's first encoder; wanted: stores of them beside those of the "
      'training images.'
    )
