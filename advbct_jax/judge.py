"""Encoders and retrieval sets, named as on the command line, brought together.

Training and retrieval don't know each other; both commands meet here.
"""

from collections.abc import Iterable, Mapping, Sequence
import pathlib
from typing import Any

from advbct_jax import processes
from advbct_jax.adapters.adapter import load_adapter, require_side
from advbct_jax.adapters.mapping import adapted
from advbct_jax.adapters.pairs import FORWARD
from advbct_jax.convert.vector_folders import find_stores
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.data.images import ImageSet
from advbct_jax.embeddings.sources import (
  Source,
  from_stores,
  open_named_store,
)
from advbct_jax.errors import InputError
from advbct_jax.refresh.curve import SEEDS, measure_curves
from advbct_jax.refresh.policies import find_policies
from advbct_jax.refresh.policies.adapted import Adapted
from advbct_jax.refresh.policy import Policy
from advbct_jax.refresh.report import write_curves
from advbct_jax.refresh.upgrade import open_upgrade
from advbct_jax.retrieval.comparability import require_one_encoder
from advbct_jax.retrieval.evaluation import evaluate
from advbct_jax.retrieval.matrix import measure_matrix
from advbct_jax.retrieval.matrix_report import write_matrices
from advbct_jax.retrieval.report import print_results, write_report
from advbct_jax.training.checkpoints import is_workdir
from advbct_jax.training.run_stores import open_run

# Where files of vectors become stores, by what they are taken for.
VECTORS = 'vectors'


def open_encoder(
  path: str | pathlib.Path,
  selections: pathlib.Path,
  vectors: pathlib.Path,
  *,
  batch_size: int,
  workers: int,
  dtype: str,
) -> Source:
  """Finds out what a path is, and makes it give embeddings.

  Args:
    path: the workdir of a run, a store, a folder of stores, or files of
      vectors.
    selections: a folder for what is taken out of a store.
    vectors: a folder for stores that are made of files.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoder of a run computes in.

  Raises:
    InputError: if there is no encoder, or it isn't finished.
  """
  path = pathlib.Path(path)
  if is_workdir(path):
    _, source = open_run(
      path, batch_size=batch_size, workers=workers, dtype=dtype
    )
    return source
  stores = processes.from_first(lambda: find_stores(path, vectors))
  return from_stores(stores, selections)


def _open_encoders(
  paths: Mapping[str, str | pathlib.Path | None],
  workdir: pathlib.Path,
  **options: Any,
) -> dict[str, Source]:
  """Opens those of some encoders that are named.

  Args:
    paths: by role, such as `old`; None for no such.
    workdir: gets what is taken out of stores and made of files.
    **options: of `open_encoder`.
  """
  return {
    role: open_encoder(
      path,
      workdir / 'embeddings' / role,
      workdir / VECTORS / role,
      **options,
    )
    for role, path in paths.items()
    if path
  }


def _embed_together(
  sources: Iterable[Source],
  retrieval_sets: Sequence[RetrievalSet],
  training_sets: Sequence[ImageSet | None] = (),
) -> None:
  """Has several processes embed what the first alone will search.

  Args:
    sources: of all encoders.
    retrieval_sets: the retrieval sets.
    training_sets: what else will be asked of the encoders.
  """
  if processes.count() == 1:
    return
  image_sets = [
    *(one.queries for one in retrieval_sets),
    *filter(None, training_sets),
    *(one.gallery for one in retrieval_sets),
  ]
  for image_set in image_sets:
    for source in sources:
      source(image_set)


def has_embeddings(
  path: pathlib.Path,
  retrieval_sets: Sequence[RetrievalSet],
  training_name: str,
  selections: pathlib.Path,
) -> bool:
  """Whether an encoder can be judged; if not, says why.

  A black box that is known by its vectors of the training images alone cannot.

  Args:
    path: the workdir of a run, a store, or a folder of stores.
    retrieval_sets: the retrieval sets.
    training_name: of the training images.
    selections: a folder for what is taken out of a store.

  Raises:
    InputError: if the embeddings to train against are another encoder's than
      those to judge.
  """
  if is_workdir(path):
    return True
  source = from_stores(path, selections)
  stores = [open_named_store(path, training_name)]
  try:
    for retrieval_set in retrieval_sets:
      stores.append(source(retrieval_set.queries))
      stores.append(source(retrieval_set.gallery))
  except InputError as error:
    print(f'the old encoder will not be judged, only the new one: {error}')
    return False
  require_one_encoder(stores)
  return True


def judge(
  paths: Mapping[str, str | pathlib.Path | None],
  retrieval_sets: Sequence[RetrievalSet],
  workdir: pathlib.Path,
  *,
  batch_size: int,
  workers: int,
  dtype: str = 'float32',
  adapter: str | pathlib.Path | None = None,
  cross: bool = True,
) -> dict[str, Any]:
  """Evaluates encoders and writes the report.

  Several processes embed together; then the first searches, and writes.

  Args:
    paths: of the `old`, `new` and `independent` encoder, and of that of side
      vectors (`side`): a workdir, a store, a folder of stores, or files of
      vectors; None for no such.
    retrieval_sets: the retrieval sets.
    workdir: where results go.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoders of runs compute in, `float32` or `bfloat16`.
    adapter: the folder of one, which maps the new encoder's vectors where they
      are compared with old ones, or the old gallery's where it is searched by
      new ones.
    cross: whether new vectors are compared with old ones at all.

  Returns:
    What `results.json` holds.

  Raises:
    InputError: if an encoder or the adapter cannot be used, or they don't
      belong together.
  """
  mapping = load_adapter(adapter) if adapter else None
  side_path = paths.get('side')
  if mapping:  # Before anything is embedded.
    require_side(
      mapping.card, f'side vectors of {side_path}' if side_path else None
    )
  elif side_path:
    raise InputError(
      'evaluation: side vectors were named, but no adapter, which alone takes '
      'them. Name both or neither.'
    )
  sources = _open_encoders(
    paths, workdir, batch_size=batch_size, workers=workers, dtype=dtype
  )
  _embed_together(sources.values(), retrieval_sets)
  return processes.from_first(
    lambda: _evaluate(sources, retrieval_sets, workdir, adapter, cross)
  )


def _evaluate(
  sources: Mapping[str, Source],
  retrieval_sets: Sequence[RetrievalSet],
  workdir: pathlib.Path,
  adapter: str | pathlib.Path | None,
  cross: bool,
) -> dict[str, Any]:
  """What `judge` does once encoders are open."""
  mapping = load_adapter(adapter) if adapter else None
  mapped: dict[str, Source | None] = {'adapted': None, 'recycled': None}
  if mapping:
    # Each adapter has a folder of its own, so that one after the other can be
    # judged in one workdir.
    folder = workdir / 'embeddings' / f'adapted-{mapping.digest[:12]}'
    forward = mapping.card.direction == FORWARD
    role, side = ('recycled', 'old') if forward else ('adapted', 'new')
    if side not in sources:
      raise InputError(
        f'{adapter}: it maps old vectors, but no old encoder was named. Name '
        'both or neither.'
      )
    mapped[role] = adapted(sources[side], mapping, folder, sources.get('side'))
  results = evaluate(
    retrieval_sets,
    sources.get('old'),
    sources['new'],
    workdir,
    independent=sources.get('independent'),
    adapted=mapped['adapted'],
    recycled=mapped['recycled'],
    cross=cross,
  )
  write_report(results, workdir)
  return results


def judge_matrix(
  paths: Sequence[str | pathlib.Path],
  retrieval_sets: Sequence[RetrievalSet],
  workdir: pathlib.Path,
  *,
  batch_size: int,
  workers: int,
  dtype: str = 'float32',
) -> dict[str, Any]:
  """Searches the gallery of each encoder with the queries of each.

  Args:
    paths: of at least two encoders, as for `judge`; a wider one after a
      narrower one. The last parts of them are what they are called.
    retrieval_sets: the retrieval sets.
    workdir: gets `matrix.json`, `.md` and pictures.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoders of runs compute in, `float32` or `bfloat16`.

  Returns:
    What `matrix.json` holds.

  Raises:
    InputError: if an encoder cannot be used, two have one name, or they don't
      belong together.
  """
  named = {pathlib.Path(path).resolve().name: path for path in paths}
  if len(named) < max(len(paths), 2):
    raise InputError(
      f'{", ".join(map(str, paths))}: wanted are two encoders at least, whose '
      'folders have different names, for these stand in the table.'
    )
  sources = _open_encoders(
    named, workdir, batch_size=batch_size, workers=workers, dtype=dtype
  )
  _embed_together(sources.values(), retrieval_sets)

  def measure() -> dict[str, Any]:
    results = measure_matrix(sources, retrieval_sets)
    write_matrices(results, list(named), workdir)
    return {**results, 'names': list(named)}

  return processes.from_first(measure)


def judge_refresh(
  paths: Mapping[str, str | pathlib.Path | None],
  retrieval_sets: Sequence[RetrievalSet],
  training_sets: Sequence[ImageSet | None],
  workdir: pathlib.Path,
  policies: Sequence[str],
  orders: Sequence[str] = ('random',),
  *,
  seeds: Sequence[int] = SEEDS,
  adapter: str | pathlib.Path | None = None,
  batch_size: int,
  workers: int,
  dtype: str = 'float32',
) -> dict[str, Any]:
  """Measures refresh policies, and writes their report.

  Args:
    paths: of the `old` and the `new` encoder, as for `judge`.
    retrieval_sets: the retrieval sets.
    training_sets: for each the things that are known in both spaces before
      anything of its gallery is re-embedded; None for none.
    workdir: gets `refresh_policies.json`, `.md` and `.png`.
    policies: names of refresh policies.
    orders: names of orders of re-embedding.
    seeds: of the orders in which chance has a part.
    adapter: the folder of one between the two, which is measured like a policy
      of the name `adapter`.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoders of runs compute in.

  Returns:
    For each set what `measure_curves` gives.

  Raises:
    InputError: if an encoder cannot be used, the two don't belong together, or
      a name is unknown.
  """
  if not paths.get('old'):
    raise InputError(
      'refresh: no old encoder was named, whose gallery is what is '
      're-embedded. Name it by --old.'
    )
  found: dict[str, Policy] = dict(find_policies(policies))
  if adapter:
    found['adapter'] = Adapted(load_adapter(adapter))
  sources = _open_encoders(
    {role: paths[role] for role in ('old', 'new')},
    workdir,
    batch_size=batch_size,
    workers=workers,
    dtype=dtype,
  )
  _embed_together(sources.values(), retrieval_sets, training_sets)

  def measure() -> dict[str, Any]:
    results = {}
    for retrieval_set, training_set in zip(
      retrieval_sets, training_sets, strict=True
    ):
      upgrade = open_upgrade(
        retrieval_set, training_set, sources['old'], sources['new']
      )
      results[retrieval_set.name] = measure_curves(
        upgrade, found, orders, seeds
      )
    write_curves(results, workdir)
    return results

  return processes.from_first(measure)


def print_judgement(results: dict[str, Any], workdir: pathlib.Path) -> None:
  """Prints the table of what `judge` returned, and where its report lies."""
  if not processes.is_first():
    return
  print_results(results)
  print(f'\nreport: {workdir / "report.md"}')
