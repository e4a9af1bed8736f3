"""An upgrade of which everything is known, to simulate its refresh."""

from collections.abc import Iterable, Iterator
import dataclasses

import numpy as np

from advbct_jax.adapters.pairs import Pairs
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.data.images import ImageSet
from advbct_jax.embeddings.sources import Source
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.refresh.known_pairs import KnownPairs, know_training_pairs
from advbct_jax.refresh.policy import Queries
from advbct_jax.refresh.vector_checks import require_different
from advbct_jax.retrieval.comparability import EncoderStores


@dataclasses.dataclass(frozen=True)
class Upgrade:
  """An upgrade from an old encoder to a new one.

  Attributes:
    retrieval_set: Q queries and N things, with ground truth.
    queries: what both encoders say of the queries.
    old: [N, D_old] old unit vectors of the gallery.
    new: [N, D] new ones.
    pairs: what is known of training things before anything is re-embedded.
  """

  retrieval_set: RetrievalSet
  queries: Queries
  old: np.ndarray
  new: np.ndarray
  pairs: KnownPairs


def open_upgrade(
  retrieval_set: RetrievalSet,
  training_set: ImageSet | None,
  old: Source,
  new: Source,
) -> Upgrade:
  """Fills or opens the stores of both encoders.

  Args:
    retrieval_set: the gallery and its queries.
    training_set: things that are known in both spaces beforehand; None for
      none.
    old: fills or opens the old encoder's store of some things.
    new: the same for the new encoder.

  Raises:
    InputError: if stores of one side are of two encoders, or of other things,
      or most vectors of a gallery are the same.
  """
  sides = {
    'old': EncoderStores('old', old),
    'new': EncoderStores('new', new),
  }
  queries, galleries = (
    {side: stores.store(images) for side, stores in sides.items()}
    for images in (retrieval_set.queries, retrieval_set.gallery)
  )
  known: Iterable[tuple[np.ndarray, np.ndarray]] = ()
  if training_set is not None:
    known = _pairs_of(*(side.store(training_set) for side in sides.values()))
  widths = (galleries['old'].card.dimension, galleries['new'].card.dimension)
  vectors = {side: _read(gallery) for side, gallery in galleries.items()}
  for side, rows in vectors.items():
    require_different(rows, f"{side} gallery's")
  return Upgrade(
    retrieval_set,
    Queries(_read(queries['new']), _read(queries['old'])),
    vectors['old'],
    vectors['new'],
    know_training_pairs(
      known,
      widths,
      len(retrieval_set.gallery),
      {side: stores.identity for side, stores in sides.items()},
    ),
  )


def _read(store: EmbeddingStore) -> np.ndarray:
  """[N, D] float32 unit vectors, in one piece of memory."""
  vectors = np.empty((store.card.count, store.card.dimension), np.float32)
  start = 0
  for chunk in store.chunks():
    vectors[start : start + len(chunk)] = unit_rows(
      np.asarray(chunk, np.float32)
    )
    start += len(chunk)
  return vectors


def _pairs_of(
  old: EmbeddingStore, new: EmbeddingStore
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  for _, new_rows, old_rows in Pairs(new, old).chunks():
    yield old_rows, new_rows
