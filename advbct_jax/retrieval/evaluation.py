"""Judges a new encoder against the old one on retrieval sets.

Encoders speak through embedding stores only, so a checkpoint, a PyTorch file
and a black box that is known by its vectors are judged alike.
"""

from collections.abc import Container, Sequence
import itertools
import json
import pathlib
from typing import Any

from absl import logging
import numpy as np

from advbct_jax.atomic_files import write_text
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.embeddings.sources import Source
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.retrieval import index as indexing
from advbct_jax.retrieval.comparability import (
  EncoderStores,
  require_comparable,
)
from advbct_jax.retrieval.protocols import measure, protocol_of
from advbct_jax.retrieval.scores import upgrade_scores

REFRESHED_PERCENT = (0, 25, 50, 75, 100)


def evaluate(
  retrieval_sets: Sequence[RetrievalSet],
  old: Source | None,
  new: Source,
  workdir: pathlib.Path,
  *,
  independent: Source | None = None,
  adapted: Source | None = None,
  recycled: Source | None = None,
  cross: bool = True,
  seed: int = 0,
) -> dict[str, Any]:
  """Judges encoders, and writes `results.json` and the galleries' indexes.

  *Old* is old queries against the old gallery, *self* new against new, *cross*
  new queries against the old gallery. The refresh curve is the main metric of
  new queries while 0, 25, 50, 75 and 100% of the gallery (random, nested) are
  re-embedded. Where the new embeddings are wider than the old ones, only their
  compatible part is searched while there is an old vector in the gallery.

  An adapter that maps new vectors into the old space stands between the two
  while there is an old vector in the gallery: in cross, and in the refresh
  curve below 100%, queries and re-embedded images are mapped. Self is always
  the new encoder's own. One that maps old vectors into the new space recycles
  the gallery: new queries search mapped old vectors, and new ones beside them.

  Args:
    retrieval_sets: the retrieval sets, of different names.
    old: fills or opens the old encoder's store of an image set; None to judge
      the new encoder alone.
    new: the same for the new encoder.
    workdir: gets `results.json` and `indexes/{old,new}-NAME.faiss`. An index
      that is there and has the right card is used again.
    independent: the same for the new model trained without any tie to the old
      one; the scores need it.
    adapted: the same for the new encoder's vectors as an adapter maps them;
      None to compare them with old ones as they are.
    recycled: the same for the old encoder's vectors as an adapter maps them;
      None to search them as they are.
    cross: whether new vectors are compared with old ones. Without, encoders of
      any two widths are judged by old and self alone.
    seed: of the order in which the gallery is refreshed.

  Returns:
    What `results.json` holds. `datasets`: for each set `old`, `self`, `cross`
    and `independent` (self-test), each {metric: percent}, and `refresh`,
    {percent refreshed: main metric in percent}. `scores`: `p_up`, `p_comp` and
    `p_1`, or empty. `encoders`: who filled the stores. `protocol`: how each set
    was judged.

  Raises:
    InputError: if stores don't belong together; the message says what differs;
      or if there is an adapter without an old encoder.
  """
  if (adapted or recycled) and not old:
    raise InputError(
      'evaluation: an adapter was named, but no old encoder, whose gallery is '
      'what mapped vectors are searched in. Name both or neither.'
    )
  names = [retrieval_set.name for retrieval_set in retrieval_sets]
  if len(set(names)) < len(names):
    raise InputError(
      f'evaluation: the data sets {", ".join(names)} were asked for. Each name '
      'stands for one set of results; name each set once.'
    )
  encoders = {
    role: EncoderStores(role, source)
    for role, source in (
      ('old', old),
      ('new', new),
      ('independent', independent),
      ('adapted', adapted),
      ('recycled', recycled),
    )
    if source
  }
  results: dict[str, Any] = {
    'datasets': {
      retrieval_set.name: _judge(
        retrieval_set, encoders, workdir / 'indexes', cross, seed
      )
      for retrieval_set in retrieval_sets
    },
    'protocol': {
      retrieval_set.name: _describe(retrieval_set)
      for retrieval_set in retrieval_sets
    },
    'encoders': {role: encoder.identity for role, encoder in encoders.items()},
  }
  results['scores'] = _scores(results)
  workdir.mkdir(parents=True, exist_ok=True)
  write_text(workdir / 'results.json', json.dumps(results, indent=2) + '\n')
  return results


def _judge(
  retrieval_set: RetrievalSet,
  encoders: dict[str, EncoderStores],
  folder: pathlib.Path,
  cross: bool,
  seed: int,
) -> dict[str, dict[str, float]]:
  """All figures of one set."""
  # Queries are few: what doesn't fit together is found out before a gallery of
  # a million images is embedded.
  queries = {
    role: encoder.store(retrieval_set.queries)
    for role, encoder in encoders.items()
  }
  if 'old' in queries and cross:
    searched = 'recycled' if 'recycled' in queries else 'old'
    require_comparable(queries[_beside_old(encoders)], queries[searched])
  galleries = {
    role: encoder.store(retrieval_set.gallery)
    for role, encoder in encoders.items()
  }
  figures: dict[str, dict[str, float]] = {}
  if 'old' in encoders:
    figures |= _judge_old_gallery(
      retrieval_set, queries, galleries, folder, cross, seed
    )
  figures['self'] = measure(
    _gallery_index(galleries['new'], folder, f'new-{retrieval_set.name}'),
    queries['new'].read(),
    retrieval_set,
  )
  if 'independent' in encoders:
    figures['independent'] = measure(
      _build(galleries['independent']),
      queries['independent'].read(),
      retrieval_set,
    )
  if 'refresh' in figures:
    main_metric = protocol_of(retrieval_set).main_metric
    figures['refresh']['100'] = figures['self'][main_metric]
  order = ('old', 'self', 'cross', 'independent', 'refresh')
  return {name: figures[name] for name in order if name in figures}


def _judge_old_gallery(
  retrieval_set: RetrievalSet,
  queries: dict[str, EmbeddingStore],
  galleries: dict[str, EmbeddingStore],
  folder: pathlib.Path,
  compare: bool,
  seed: int,
) -> dict[str, dict[str, float]]:
  """The figures on the old gallery, and on it while it is refreshed."""
  index = _gallery_index(galleries['old'], folder, f'old-{retrieval_set.name}')
  old = measure(index, queries['old'].read(), retrieval_set)
  if not compare:
    return {'old': old}
  new = _beside_old(queries)
  new_queries = queries[new].read()
  if 'recycled' in galleries:
    index = _build(galleries['recycled'])
  cross = measure(index, new_queries, retrieval_set)
  main_metric = protocol_of(retrieval_set).main_metric
  refresh = {'0': cross[main_metric]}
  count = len(retrieval_set.gallery)
  order = np.random.default_rng(seed).permutation(count)
  for before, after in itertools.pairwise(REFRESHED_PERCENT[:-1]):
    rows = np.sort(order[count * before // 100 : count * after // 100])
    _refresh(index, galleries[new], rows)
    measured = measure(index, new_queries, retrieval_set)
    refresh[str(after)] = measured[main_metric]
  return {'old': old, 'cross': cross, 'refresh': refresh}


def _beside_old(roles: Container[str]) -> str:
  """Whose vectors are compared with old ones."""
  return 'adapted' if 'adapted' in roles else 'new'


def _refresh(
  index: indexing.GalleryIndex, store: EmbeddingStore, rows: np.ndarray
) -> None:
  """Puts a store's vectors in the place of some rows, [M] ascending."""
  start = 0
  for chunk in store.chunks():
    within = rows[(rows >= start) & (rows < start + len(chunk))]
    indexing.replace_rows(index, within, chunk[within - start, : index.d])
    start += len(chunk)


def _gallery_index(
  store: EmbeddingStore, folder: pathlib.Path, name: str
) -> indexing.GalleryIndex:
  try:
    return indexing.read_index(folder, name, expected=store.card)[0]
  except InputError as reason:
    # None yet, a damaged one, or that of an encoder judged here before.
    logging.debug('building an index, since %s', reason)
  index = _build(store)
  indexing.write_index(folder, name, index, store.ids(), store.card)
  return index


def _build(store: EmbeddingStore) -> indexing.GalleryIndex:
  card = store.card
  return indexing.build_index(card.dimension, card.count, store.chunks())


def _describe(retrieval_set: RetrievalSet) -> dict[str, Any]:
  protocol = protocol_of(retrieval_set)
  return {
    'kind': protocol.name,
    'main_metric': protocol.main_metric,
    'queries': len(retrieval_set.queries),
    'gallery': len(retrieval_set.gallery),
    'query_crop': retrieval_set.queries.boxes is not None,
  }


def _scores(results: dict[str, Any]) -> dict[str, float]:
  """The scores over all sets, empty where they are not defined."""
  if not {'old', 'independent'} <= results['encoders'].keys():
    return {}
  old, self_test, cross, independent = (
    [
      figures[side][results['protocol'][name]['main_metric']]
      for name, figures in results['datasets'].items()
    ]
    for side in ('old', 'self', 'cross', 'independent')
  )
  try:
    return upgrade_scores(old, self_test, cross, independent)
  except InputError as error:
    # Everything else was measured, and is worth keeping.
    print(f'no scores: {error}')
    return {}
