"""The queries of each of several encoders on the gallery of each."""

from collections.abc import Mapping, Sequence
import itertools
from typing import Any

import numpy as np

from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.embeddings.sources import Source
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.retrieval.comparability import EncoderStores, require_comparable
from advbct_jax.retrieval.index import build_index
from advbct_jax.retrieval.protocols import measure, protocol_of


def measure_matrix(
  sources: Mapping[str, Source], retrieval_sets: Sequence[RetrievalSet]
) -> dict[str, Any]:
  """Searches each encoder's gallery with each encoder's queries.

  Of two encoders of different widths, the narrower one's width counts: so many
  first components of the wider one are what was tied to it.

  Args:
    sources: fill or open each encoder's store of an image set, by what the
      encoder is called in messages; a wider one after a narrower one.
    retrieval_sets: the retrieval sets, of different names.

  Returns:
    `encoders`: who filled the stores. `datasets`: for each set its
    `main_metric` and `matrices`, {metric: [T, T] percent}, queries down and
    galleries across.

  Raises:
    InputError: if stores don't belong together, or the sets have one name.
  """
  names = [retrieval_set.name for retrieval_set in retrieval_sets]
  if len(set(names)) < len(names):
    raise InputError(
      f'the data sets {", ".join(names)} were asked for. Each name stands for '
      'one matrix; name each set once.'
    )
  encoders = [EncoderStores(role, source) for role, source in sources.items()]
  return {
    'datasets': {
      retrieval_set.name: _measure_set(encoders, retrieval_set)
      for retrieval_set in retrieval_sets
    },
    'encoders': [encoder.identity for encoder in encoders],
  }


def _measure_set(
  encoders: Sequence[EncoderStores], retrieval_set: RetrievalSet
) -> dict[str, Any]:
  queries = [encoder.store(retrieval_set.queries) for encoder in encoders]
  # Before any gallery, which may be large, is embedded.
  for older, newer in itertools.pairwise(queries):
    require_comparable(newer, older)
  vectors = [store.read() for store in queries]
  columns = [
    _measure_gallery(
      encoder.store(retrieval_set.gallery), vectors, retrieval_set
    )
    for encoder in encoders
  ]
  matrices = {
    metric: np.array(
      [[cell[metric] for cell in column] for column in columns]
    ).T
    for metric in columns[0][0]
  }
  return {
    'main_metric': protocol_of(retrieval_set).main_metric,
    'matrices': {metric: one.tolist() for metric, one in matrices.items()},
  }


def _measure_gallery(
  gallery: EmbeddingStore,
  queries: Sequence[np.ndarray],
  retrieval_set: RetrievalSet,
) -> list[Mapping[str, float]]:
  """The figures of all encoders' queries on one gallery."""
  card = gallery.card
  widths = [min(one.shape[1], card.dimension) for one in queries]
  indexes = {
    width: build_index(
      width, card.count, (chunk[:, :width] for chunk in gallery.chunks())
    )
    for width in set(widths)
  }
  return [
    measure(indexes[width], one, retrieval_set)
    for width, one in zip(widths, queries, strict=True)
  ]
