"""Small parts of retrieval sets, for what is judged often."""

import numpy as np

from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.errors import InputError
from advbct_jax.retrieval.protocols import protocol_of

# So that there is something to be mistaken for: in a gallery of little else
# than what is looked for, every encoder is good.
_GALLERY_PER_QUERY = 10


def take_part(
  retrieval_set: RetrievalSet, queries: int, seed: int = 0
) -> RetrievalSet:
  """Draws a part of a retrieval set, which is the same at every call.

  Its figures are those of the part: a smaller gallery is an easier one.

  Args:
    retrieval_set: the whole.
    queries: how many to take of those that the main metric counts.
    seed: of the draw.

  Returns:
    These queries, all images that are to be found for them, and others up to
    ten times as many as queries; in the order of the whole.

  Raises:
    InputError: if the main metric counts no query.
  """
  truth = retrieval_set.ground_truth
  protocol = protocol_of(retrieval_set)
  counted = np.flatnonzero(protocol.counted(truth))
  if not len(counted):
    raise InputError(
      f'{retrieval_set.name}: no query has anything to find for '
      f'{protocol.main_metric}. Check the ground truth, or leave this data set '
      'out.'
    )
  random = np.random.default_rng(seed)
  rows = np.sort(random.permutation(counted)[:queries])
  wanted = np.unique(np.concatenate([truth.wanted(row) for row in rows]))
  others = np.setdiff1d(np.arange(len(retrieval_set.gallery)), wanted)
  room = max(_GALLERY_PER_QUERY * len(rows) - len(wanted), 0)
  gallery = np.union1d(wanted, random.permutation(others)[:room])
  return RetrievalSet(
    retrieval_set.name,
    retrieval_set.queries.take(rows),
    retrieval_set.gallery.take(gallery),
    truth.take(rows, gallery),
  )
