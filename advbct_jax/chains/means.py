"""What several encoders of one space say on average, as stores."""

from collections.abc import Sequence
import dataclasses
import hashlib
import json
import pathlib

import numpy as np

from advbct_jax.embeddings.store import EmbeddingStore, create_store
from advbct_jax.embeddings.unit_vectors import unit_rows


def write_mean(
  stores: Sequence[EmbeddingStore], path: pathlib.Path
) -> EmbeddingStore:
  """Averages the unit vectors of encoders that were tied to each other.

  Of all unit vectors, that along the mean has the largest sum of cosines to
  those of the encoders. Narrower ones count as zero in the components that they
  lack: then it is the sum of inner products of their unit vectors with the
  vector's first components.

  >>> import advbct_jax
  >>> import numpy
  >>> stores = [
  ...   advbct_jax.make_store(name, numpy.array([vector]), ['a'], 'ours')
  ...   for name, vector in (('v1', [0.0, 9.0]), ('v2', [0.0, 0.0, 5.0]))
  ... ]
  >>> write_mean(stores, pathlib.Path('mean')).read().tolist()
  [[0.0, 0.5, 0.5]]

  Args:
    stores: what each encoder says of the same N things, in one order.
    path: of the store of means. A complete one is only opened; what a kill has
      left of one is gone on with.

  Returns:
    The store, as wide as the widest encoder.

  Raises:
    InputError: if the store at the path is of other encoders or things.
  """
  width = max(store.card.dimension for store in stores)
  identities = [store.card.identity() for store in stores]
  digest = hashlib.sha256(json.dumps(identities, sort_keys=True).encode())
  card = dataclasses.replace(
    stores[-1].card,
    encoder=f'the mean of {len(stores)} encoders',
    weights=digest.hexdigest(),
    dimension=width,
    compatible_dimension=0,
    labels_digest=None,
    dtype='float32',
  )
  mean = create_store(path, card, stores[0].ids())
  if mean.card.complete:
    return mean
  with mean.filling():
    for chunk in mean.missing_chunks():
      rows = mean.rows_of(chunk)
      total = np.zeros((rows.stop - rows.start, width), np.float32)
      for store in stores:
        vectors = store.read_rows(np.arange(rows.start, rows.stop))
        unit = unit_rows(np.asarray(vectors, np.float32))
        total[:, : unit.shape[1]] += unit
      mean.write_chunk(chunk, total / len(stores))
    return mean.finish()
