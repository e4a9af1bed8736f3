"""Every query encoder of a chain on every gallery."""

from collections.abc import Mapping, Sequence
import itertools
from typing import Any

import numpy as np

from advbct_jax.chains.scores import average_accuracy, average_compatibility
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.embeddings.sources import Source
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.retrieval.comparability import EncoderStores, require_comparable
from advbct_jax.retrieval.index import build_index
from advbct_jax.retrieval.protocols import measure, protocol_of


def measure_chain(
  sources: Sequence[Source], retrieval_sets: Sequence[RetrievalSet]
) -> dict[str, Any]:
  """Searches each encoder's gallery with each encoder's queries.

  Of two encoders of different widths, the narrower one's width counts: so many
  first components of the wider one are what was tied to it.

  Args:
    sources: fill or open each encoder's store of an image set, in the order of
      the chain.
    retrieval_sets: the retrieval sets, of different names.

  Returns:
    `encoders`: who filled the stores. `datasets`: for each set its
    `main_metric`, `matrices`, {metric: [T, T] percent}, queries down and
    galleries across; of the main metric `average_compatibility`,
    `average_compatibility_counting_ties`, where a tie counts against it, and
    `average_accuracy`.

  Raises:
    InputError: if stores don't belong together, or the sets have one name.
  """
  names = [retrieval_set.name for retrieval_set in retrieval_sets]
  if len(set(names)) < len(names):
    raise InputError(
      f'chain: the data sets {", ".join(names)} were asked for. Each name '
      'stands for one matrix; name each set once.'
    )
  encoders = [
    EncoderStores(f'step {number}', source)
    for number, source in enumerate(sources, start=1)
  ]
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
  main_metric = protocol_of(retrieval_set).main_metric
  main = matrices[main_metric]
  return {
    'main_metric': main_metric,
    'matrices': {metric: one.tolist() for metric, one in matrices.items()},
    'average_compatibility': average_compatibility(main),
    'average_compatibility_counting_ties': average_compatibility(
      main, strict=False
    ),
    'average_accuracy': average_accuracy(main),
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
