"""How well a policy foretells what the new encoder will say; no labels.

Of things that are known in both spaces some are held out. A policy that is
fitted to the others searches them as if they were old; how its scores agree
with those of the new vectors says how it will do on what really is old.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from advbct_jax.refresh.known_pairs import KnownPairs
from advbct_jax.refresh.policy import Policy, Queries

# What the old encoder knows that the new one doesn't counts a little, too: the
# two err differently. On two sets of photographs and two of texts 0.15 was near
# the best at every share but 0%; with nothing the prediction is trusted too
# early, with 0.35 the old encoder too long. Where only training images are
# known, of which the gallery's things may be unlike, 0.35 does as well there,
# and errs on the side of what is known to work.
_OLD_KNOWLEDGE = 0.15
_OLD_KNOWLEDGE_BEFOREHAND = 0.35
_MOST_QUERIES = 256

_P = TypeVar('_P', bound=Policy)
# From P policies, what is known, Q queries and old unit vectors [S, D_old] to
# the scores [Q, S] of each policy in turn, fitted to what is known.
Score = Callable[
  [Sequence[_P], KnownPairs, Queries, np.ndarray], Iterable[np.ndarray]
]


def score_each(
  policies: Sequence[Policy],
  known: KnownPairs,
  queries: Queries,
  old: np.ndarray,
) -> Iterator[np.ndarray]:
  """The scores [Q, S] of policies that keep them linear in old vectors.

  Each is fitted on its own. Policies that have much in common are scored
  together in a fraction of the time, by a function of the same form.
  """
  for policy in policies:
    part = policy.fit(known)
    yield part.queries(queries, None) @ part.rows(old).T


def choose(
  policies: Sequence[_P], pairs: KnownPairs, score: Score[_P] = score_each
) -> _P:
  """The policy that agrees best with the new encoder.

  Args:
    policies: candidates; of equal ones the first is taken.
    pairs: what is known.
    score: gives their scores.
  """
  agreed = measure_agreement(policies, pairs, score)
  return policies[int(np.argmax(agreed))]


def measure_agreement(
  policies: Sequence[_P], pairs: KnownPairs, score: Score[_P] = score_each
) -> np.ndarray:
  """How well policies agree with the new encoder on held-out things.

  Each held-out thing is searched for among the others of its fold. The
  agreement is the correlation, over a query's things, of the policy's scores
  with the new encoder's, to which a little of the old one's is added.

  Args:
    policies: P of them.
    pairs: what is known, split by `KnownPairs.held_out`.
    score: gives their scores.

  Returns:
    [P] mean correlations over queries and folds, from −1 to 1.
  """
  old_knowledge = (
    _OLD_KNOWLEDGE if pairs.gallery_is_known else _OLD_KNOWLEDGE_BEFOREHAND
  )
  agreed: list[list[float]] = []
  for known, (old, new) in pairs.held_out:
    if len(old) < 3:
      continue
    queries = Queries(new[:_MOST_QUERIES], old[:_MOST_QUERIES])
    others = ~np.eye(len(queries.new), len(old), dtype=bool)
    # No query is compared with itself.
    wanted = _standardise(queries.new @ new.T, others)
    wanted += old_knowledge * _standardise(queries.needed_old() @ old.T, others)
    wanted = _standardise(wanted, others)
    agreed.append(
      [
        _correlate(scores, wanted, others)
        for scores in score(policies, known, queries, old)
      ]
    )
  return np.mean(agreed, axis=0) if agreed else np.zeros(len(policies))


def _correlate(
  scores: np.ndarray, wanted: np.ndarray, others: np.ndarray
) -> float:
  products = _standardise(scores, others) * wanted
  return float((products.sum(axis=1) / others.sum(axis=1)).mean())


def _standardise(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Scores [Q, S] of mean 0 and deviation 1 over some, which alone remain."""
  count = others.sum(axis=1, keepdims=True)
  centred = scores - (scores * others).sum(axis=1, keepdims=True) / count
  centred = centred * others
  deviation = np.sqrt(np.square(centred).sum(axis=1, keepdims=True) / count)
  return centred / np.maximum(deviation, 1e-12)
