"""The protocols by which retrieval sets are judged."""

from collections.abc import Callable
import dataclasses
from typing import Any

import numpy as np

from advbct_jax.data.ground_truth import (
  Gldv2GroundTruth,
  RetrievalSet,
  RevisitedGroundTruth,
)
from advbct_jax.errors import InputError
from advbct_jax.retrieval import index as indexing
from advbct_jax.retrieval import metrics


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How retrieval sets of one kind are judged.

  Attributes:
    name: what reports call it.
    measure: from ranks [Q, K] and ground truth to metrics, as fractions.
    depth: how many ranks K it needs, None for the whole gallery.
    main_metric: the one in scores, plots and the refresh curve.
    counted: from ground truth to [Q] bool: whose mean the main metric is.
  """

  name: str
  measure: Callable[[np.ndarray, Any], dict[str, float]]
  depth: int | None
  main_metric: str
  counted: Callable[[Any], np.ndarray]


def _counted_revisited(truth: RevisitedGroundTruth) -> np.ndarray:
  return np.array([len(truth.wanted(q)) > 0 for q in range(len(truth.easy))])


def _counted_gldv2(truth: Gldv2GroundTruth) -> np.ndarray:
  return np.array(
    [
      usage == 'Private' and len(relevant) > 0
      for usage, relevant in zip(truth.usage, truth.relevant, strict=True)
    ]
  )


_PROTOCOLS = {
  RevisitedGroundTruth: Protocol(
    'revisited',
    metrics.revisited_metrics,
    None,
    'medium/map',
    _counted_revisited,
  ),
  Gldv2GroundTruth: Protocol(
    'gldv2',
    metrics.gldv2_metrics,
    metrics.GLDV2_DEPTH,
    'private/map@100',
    _counted_gldv2,
  ),
}

MAIN_METRICS = tuple(one.main_metric for one in _PROTOCOLS.values())


def protocol_of(retrieval_set: RetrievalSet) -> Protocol:
  """How a retrieval set is judged, by the form of its ground truth."""
  return _PROTOCOLS[type(retrieval_set.ground_truth)]


def measure(
  index: indexing.GalleryIndex,
  queries: np.ndarray,
  retrieval_set: RetrievalSet,
) -> dict[str, float]:
  """Searches with all queries and judges what comes first.

  Args:
    index: the gallery.
    queries: [Q, D] their embeddings; of wider ones than the gallery's the
      first components count.
    retrieval_set: what the two are of.

  Returns:
    The metrics in percent.

  Raises:
    InputError: if nothing can be found for the main metric.
  """
  protocol = protocol_of(retrieval_set)
  count = len(retrieval_set.gallery)
  _, ranks = indexing.search(
    index, queries[:, : index.d], min(protocol.depth or count, count)
  )
  measured = protocol.measure(ranks, retrieval_set.ground_truth)
  if protocol.main_metric not in measured:
    raise InputError(
      f'{retrieval_set.name}: no query has anything to find for '
      f'{protocol.main_metric}, only for {", ".join(measured) or "nothing"}. '
      'Check the ground truth, or leave this data set out.'
    )
  return {name: 100 * value for name, value in measured.items()}
