"""Retrieval metrics: pure functions of ranks.

`ranks` [Q, K] holds, for each of Q queries, the positions in the gallery of its
K best matches, best first. All results are fractions, not percent.
"""

import numpy as np

from advbct_jax.data.ground_truth import Gldv2GroundTruth, RevisitedGroundTruth
from advbct_jax.errors import InputError

PRECISION_DEPTHS = (1, 5, 10)
GLDV2_DEPTH = 100

# Which images of the ground truth are wanted at each level; those of the other
# grades are taken out of the ranking before anything is counted.
_WANTED = {
  'easy': ('easy',),
  'medium': ('easy', 'hard'),
  'hard': ('hard',),
}

_GLDV2_SUBSETS = {
  'private': ('Private',),
  'public': ('Public',),
  'all': ('Private', 'Public'),
}


def trapezoidal_average_precision(hits: np.ndarray, wanted: int) -> float:
  """The area under the precision-recall curve by the trapezoidal rule.

  Args:
    hits: [H] ranks from 0 of the wanted images that were found, ascending.
    wanted: how many there are to find, at least 1.

  Returns:
    The average precision.

  References:
    Philbin et al., Object retrieval with large vocabularies and fast spatial
    matching, CVPR 2007.

  >>> trapezoidal_average_precision(np.array([0, 3]), wanted=2)
  0.7083333333333333
  """
  found_before = np.arange(len(hits))
  # At rank 0 nothing was seen yet; precision there is 1 by definition.
  before = np.where(hits == 0, 1.0, found_before / np.maximum(hits, 1))
  after = (found_before + 1) / (hits + 1)
  return float((before + after).sum() / (2 * wanted))


def average_precision(hits: np.ndarray, wanted: int) -> float:
  """The mean over the wanted images of the precision where each is found.

  Args:
    hits: [H] ranks from 0 of the wanted images that were found, ascending.
    wanted: how many are counted, at least 1.

  Returns:
    The average precision.

  >>> average_precision(np.array([0, 3]), wanted=2)
  0.75
  """
  return float(((np.arange(len(hits)) + 1) / (hits + 1)).sum() / wanted)


def precision_at(hits: np.ndarray, depth: int) -> float:
  """The share of wanted images among the first `depth`.

  As in the published evaluation of Revisited Oxford and Paris, the depth ends
  at the last wanted image: a query with fewer than `depth` of them can reach 1.

  Args:
    hits: [H] ranks from 0 of the wanted images that were found, ascending.
    depth: the number of places looked at.

  Returns:
    The precision, 0 where nothing was found.

  >>> precision_at(np.array([0, 1, 3]), depth=10)
  0.75
  """
  if not len(hits):
    return 0.0
  depth = min(depth, int(hits[-1]) + 1)
  return float((hits < depth).sum() / depth)


def revisited_by_query(
  ranks: np.ndarray, truth: RevisitedGroundTruth
) -> dict[str, np.ndarray]:
  """Judges each query by the protocol of Revisited Oxford and Paris.

  Args:
    ranks: [Q, K] gallery positions, best first. Wanted images beyond K count
      as never found, so the published figures need the whole gallery.
    truth: what should be found.

  Returns:
    For LEVEL easy, medium and hard, `LEVEL/map` and `LEVEL/mp@1`, `@5`, `@10`:
    [Q] average precision and precision; NaN for a query that has nothing to
    find at that level.

  References:
    Radenović et al., Revisiting Oxford and Paris, CVPR 2018.
  """
  names = ['map', *(f'mp@{depth}' for depth in PRECISION_DEPTHS)]
  results = {
    f'{level}/{name}': np.full(len(ranks), np.nan)
    for level in _WANTED
    for name in names
  }
  for query, ranked in enumerate(ranks):
    graded = {
      'easy': truth.easy[query],
      'hard': truth.hard[query],
      'junk': truth.junk[query],
    }
    found = {
      grade: np.flatnonzero(np.isin(ranked, images))
      for grade, images in graded.items()
    }
    for level, grades in _WANTED.items():
      wanted = sum(len(graded[grade]) for grade in grades)
      if not wanted:
        continue
      hits = np.sort(np.concatenate([found[grade] for grade in grades]))
      ignored = np.sort(
        np.concatenate([found[grade] for grade in found if grade not in grades])
      )
      hits = hits - np.searchsorted(ignored, hits)
      results[f'{level}/map'][query] = trapezoidal_average_precision(
        hits, wanted
      )
      for depth in PRECISION_DEPTHS:
        results[f'{level}/mp@{depth}'][query] = precision_at(hits, depth)
  return results


def revisited_metrics(
  ranks: np.ndarray, truth: RevisitedGroundTruth
) -> dict[str, float]:
  """Averages `revisited_by_query` over the queries that have a positive.

  Args:
    ranks: [Q, K] gallery positions, best first.
    truth: what should be found.

  Returns:
    `LEVEL/map` and `LEVEL/mp@k`; a level at which no query has a positive is
    left out.
  """
  return {
    name: float(np.nanmean(values))
    for name, values in revisited_by_query(ranks, truth).items()
    if not np.isnan(values).all()
  }


def gldv2_by_query(ranks: np.ndarray, truth: Gldv2GroundTruth) -> np.ndarray:
  """Judges each query by Google Landmarks v2's AP@100.

  AP@100 = Σ_j j/rank_j / min(#relevant, 100) over the hits j in the first 100.

  Args:
    ranks: [Q, K] gallery positions, best first; places beyond 100 are unused.
    truth: what should be found.

  Returns:
    [Q] average precisions; NaN for a query without relevant images.

  References:
    Weyand et al., Google Landmarks Dataset v2, CVPR 2020.
  """
  results = np.full(len(ranks), np.nan)
  for query, ranked in enumerate(ranks[:, :GLDV2_DEPTH]):
    relevant = truth.relevant[query]
    if len(relevant):
      hits = np.flatnonzero(np.isin(ranked, relevant))
      results[query] = average_precision(hits, min(len(relevant), GLDV2_DEPTH))
  return results


def gldv2_metrics(
  ranks: np.ndarray, truth: Gldv2GroundTruth
) -> dict[str, float]:
  """Averages `gldv2_by_query` over the published subsets of the queries.

  Args:
    ranks: [Q, K] gallery positions, best first.
    truth: what should be found.

  Returns:
    `private/map@100`, `public/map@100` and `all/map@100` (both; ignored queries
    are in none); a subset without queries is left out.
  """
  values = gldv2_by_query(ranks, truth)
  usage = np.asarray(truth.usage)
  results = {}
  for subset, usages in _GLDV2_SUBSETS.items():
    judged = np.isin(usage, usages) & ~np.isnan(values)
    if judged.any():
      results[f'{subset}/map@{GLDV2_DEPTH}'] = float(values[judged].mean())
  return results


def person_metrics(
  ranks: np.ndarray,
  query_ids: np.ndarray,
  query_cameras: np.ndarray,
  gallery_ids: np.ndarray,
  gallery_cameras: np.ndarray,
  depth: int = 50,
) -> tuple[np.ndarray, float]:
  """Person re-identification by the protocol of Market-1501.

  Gallery images of the query's person under the query's camera are taken out
  of the ranking. A query without an image under another camera is left out.

  Args:
    ranks: [Q, K] gallery positions, best first.
    query_ids: [Q] persons.
    query_cameras: [Q] cameras.
    gallery_ids: [N] persons.
    gallery_cameras: [N] cameras.
    depth: how many ranks of the matching curve to return.

  Returns:
    [depth] cumulative matching curve: the share of queries with a match among
    the first 1, 2, … places; and the mean (not trapezoidal) average precision.

  Raises:
    InputError: if no query has an image under another camera.

  References:
    Zheng et al., Scalable person re-identification: a benchmark, ICCV 2015.
  """
  matched, precisions = [], []
  for ranked, person, camera in zip(
    ranks, query_ids, query_cameras, strict=True
  ):
    same_person = gallery_ids == person
    junk = same_person & (gallery_cameras == camera)
    wanted = int((same_person & ~junk).sum())
    if not wanted:
      continue
    hits = np.flatnonzero(same_person[ranked[~junk[ranked]]])
    matched.append(np.isin(np.arange(depth), hits[:1]).cumsum())
    precisions.append(average_precision(hits, wanted))
  if not matched:
    raise InputError(
      f'person re-identification: none of {len(ranks)} queries has a gallery '
      'image of its person under another camera. Check the ids and cameras.'
    )
  return np.mean(matched, axis=0), float(np.mean(precisions))
