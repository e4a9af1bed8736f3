"""Which things are re-embedded first."""

from collections.abc import Callable
import dataclasses

import numpy as np

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.refresh.known_pairs import KnownPairs, cluster
from advbct_jax.refresh.policy import Queries
from advbct_jax.refresh.rotation import fit_rotation
from advbct_jax.retrieval.exact_search import search_chunks

# How many results of a query count as hit.
_HIT_DEPTH = 100
_PENALTY = 0.1


@dataclasses.dataclass(frozen=True)
class Order:
  """An order of re-embedding.

  Attributes:
    arrange: from [N, D_old] old unit vectors, what is known beforehand, a
      sample of queries and a seed to [N] positions, the first to come first.
    random: whether the seed changes it.
  """

  arrange: Callable[[np.ndarray, KnownPairs, Queries, int], np.ndarray]
  random: bool = False


def find_order(name: str) -> Order:
  """Looks an order up.

  Args:
    name: a key of `ORDERS`.

  Raises:
    InputError: if there is none of the name.
  """
  if name not in ORDERS:
    raise InputError(
      f'refresh: the order {name!r} was asked for; wanted: one of '
      f'{", ".join(ORDERS)}.'
    )
  return ORDERS[name]


def _random(
  old: np.ndarray, pairs: KnownPairs, queries: Queries, seed: int
) -> np.ndarray:
  return np.random.default_rng(seed).permutation(len(old))


def _coverage(
  old: np.ndarray, pairs: KnownPairs, queries: Queries, seed: int
) -> np.ndarray:
  """Of each of many clusters the nearest to its centre, then the next, …."""
  centres = cluster(old, max(int(np.sqrt(len(old))), 1), seed)
  similarity = old @ centres.T
  nearest = similarity.argmax(axis=1)
  closeness = similarity.max(axis=1)
  order = np.lexsort((-closeness, nearest))
  starts = np.searchsorted(nearest[order], nearest[order], side='left')
  place = np.empty(len(old), np.int64)
  place[order] = np.arange(len(old)) - starts
  return np.lexsort((-closeness, place))


def _asked(
  old: np.ndarray, pairs: KnownPairs, queries: Queries, seed: int
) -> np.ndarray:
  """What the queries find, early results more; the others at random."""
  rows = np.arange(len(old))
  _, found = search_chunks(
    [(rows, old)], queries.needed_old(), min(_HIT_DEPTH, len(old))
  )
  hits = np.zeros(len(old))
  discount = 1 / np.log2(2 + np.arange(found.shape[1]))
  np.add.at(hits, found, np.broadcast_to(discount, found.shape))
  # What no query finds comes at random.
  shuffled = np.random.default_rng(seed).permutation(len(old))
  return shuffled[np.argsort(-hits[shuffled], kind='stable')]


def _outlying(
  old: np.ndarray, pairs: KnownPairs, queries: Queries, seed: int
) -> np.ndarray:
  """Farthest from the mean of their cluster first.

  Ricci et al. (NeurIPS 2025, arXiv 2509.16664) take the class; a gallery mostly
  has none.
  """
  centres = cluster(old, max(int(np.sqrt(len(old))), 1), seed)
  return np.argsort((old @ centres.T).max(axis=1), kind='stable')


def _disagreeing(
  old: np.ndarray, pairs: KnownPairs, queries: Queries, seed: int
) -> np.ndarray:
  """Where rotation and regression predict the least alike new vectors."""
  turned = old @ fit_rotation(pairs.sums).T
  predictor = pairs.predictor(_PENALTY)
  predicted = unit_rows((old - predictor.old_mean) @ predictor.weights)
  centred = unit_rows(turned - predictor.new_mean)
  return np.argsort(np.sum(predicted * centred, axis=1), kind='stable')


def _uncertain(
  old: np.ndarray, pairs: KnownPairs, queries: Queries, seed: int
) -> np.ndarray:
  """Where the error that regression predicts for itself is the greatest.

  Jaeckle et al., "FastFill", ICLR 2023, train a network to predict σ; of a
  linear map it is known: (o − μ)ᵀ(Σ + κI)⁻¹(o − μ) but for a factor.
  """
  sums = pairs.sums
  mean = sums.x / sums.count
  covariance = sums.xx / sums.count - np.outer(mean, mean)
  ridge = _PENALTY * np.trace(covariance) / len(mean)
  centred = old - mean.astype(np.float32)
  precision = np.linalg.inv(covariance + ridge * np.eye(len(mean)))
  leverage = np.sum((centred @ precision.astype(np.float32)) * centred, axis=1)
  return np.argsort(-leverage, kind='stable')


ORDERS = {
  'random': Order(_random, random=True),
  'coverage': Order(_coverage, random=True),
  'asked': Order(_asked, random=True),
  'outlying': Order(_outlying, random=True),
  'disagreeing': Order(_disagreeing),
  'uncertain': Order(_uncertain),
}
