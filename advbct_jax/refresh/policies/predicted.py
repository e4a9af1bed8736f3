"""New vectors of old things, predicted from their old ones.

A ridge map, fitted to all pairs, predicts the centred new vector of a thing
from its centred old one, p = (o − μ_o)M. New queries are compared with
predictions; old queries, where there are any, with the centred old vectors:

    [q̂_n/s_n, γ·q̂_o/s_o] · [p, (o − μ_o)] / ‖[p/s_n, γ·(o − μ_o)/s_o]‖

where q̂ is a centred query of length 1 and s the root mean squared length of its
kind of things. Both parts are linear in o. So the old index is searched with
*one* vector of its own width, and each of its things has one number beside it,
the length that it is divided by.

Against a rotation of queries this weighs directions by how well they are known,
and takes out the means, which say nothing of a thing but take up most of the
length of features that were pooled after a ReLU.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
from typing import ClassVar

import numpy as np

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.refresh.known_pairs import KnownPairs
from advbct_jax.refresh.policy import Neighbours, OldPart, Policy, Queries
from advbct_jax.refresh.predictor import Predictor

# Fewer say less about a space than nothing.
FEWEST_PAIRS = 20

# Vectors that are laid out at a time; what is made of them on the way then
# stays near the processor.
_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class _Predicted(OldPart):
  """Queries on predictions.

  Attributes:
    predictor: the map, of predictions of a mean squared length of 1.
    old_weight: γ/s_o.
  """

  predictor: Predictor
  old_weight: float

  def rows(self, old: np.ndarray) -> np.ndarray:
    """[N, D_old + 1]: old vectors and a one, divided by the length."""
    rows = np.empty((len(old), old.shape[1] + 1), np.float32)
    for start in range(0, len(old), _BLOCK):
      block = slice(start, start + _BLOCK)
      centred = old[block] - self.predictor.old_mean
      squares = _squares(centred @ self.predictor.weights)
      if self.old_weight:
        squares += self.old_weight**2 * _squares(centred)
      inverse = 1 / _lengths(squares)[:, None]
      np.multiply(old[block], inverse, out=rows[block, :-1])
      rows[block, -1:] = inverse
    return rows

  def queries(
    self, queries: Queries, neighbours: Neighbours | None
  ) -> np.ndarray:
    """[Q, D_old + 1]: one vector for the old space, and its offset."""
    predictor = self.predictor
    asked = unit_rows(queries.new - predictor.new_mean) @ predictor.weights.T
    if self.old_weight:
      old = unit_rows(queries.needed_old() - predictor.old_mean)
      asked += self.old_weight * old
    return np.hstack([asked, -(asked @ predictor.old_mean)[:, None]])


@dataclasses.dataclass(frozen=True)
class Predict(Policy):
  """New queries on new vectors that are predicted from old ones.

  Attributes:
    penalty: of the ridge map, in parts of the mean variance of an old
      component.
  """

  penalty: float = 0.1

  label = 'predicted'
  old_weight: ClassVar[float] = 0.0

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Fits the map to all pairs."""
    return _fit(pairs, self.penalty, self.old_weight)


@dataclasses.dataclass(frozen=True)
class PredictInterpolate(Policy):
  """New queries on predictions, and old queries on old vectors, in one search.

  Attributes:
    penalty: of the ridge map, in parts of the mean variance of an old
      component.
    old_weight: γ, of the old similarity beside the predicted one.
  """

  penalty: float = 0.1
  old_weight: float = 0.5

  needs_old = True
  label = 'predicted, interpolated'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Fits the map to all pairs."""
    if not 0 <= self.old_weight < np.inf:
      raise InputError(
        f'refresh: old_weight is {self.old_weight}; wanted: a number of at '
        'least 0.'
      )
    return _fit(pairs, self.penalty, self.old_weight)


def _fit(pairs: KnownPairs, penalty: float, old_weight: float) -> OldPart:
  if pairs.count < FEWEST_PAIRS:
    raise InputError(
      f'refresh: {pairs.count} things are known in both spaces; wanted: at '
      f'least {FEWEST_PAIRS}, better several hundred. Embed some training or '
      'gallery images with the new encoder first, or take the policy old.'
    )
  predictor = pairs.predictor(penalty)
  return _Predicted(predictor, old_weight / predictor.old_scale)


def score_predictions(
  policies: Sequence[Predict | PredictInterpolate],
  known: KnownPairs,
  queries: Queries,
  old: np.ndarray,
) -> Iterator[np.ndarray]:
  """The scores of many settings, without a fit for each.

  Args:
    policies: P settings; those of one penalty should stand together.
    known: what they are fitted to.
    queries: Q of them, with old vectors.
    old: [S, D_old] unit vectors of what is searched.

  Yields:
    [Q, S] the inner products of what `OldPart.queries` and `OldPart.rows` would
    be, of each policy in turn.
  """
  maps = known.principal_maps
  centred = old - maps.old_mean
  old_squares = _squares(centred)
  old_scores = unit_rows(queries.needed_old() - maps.old_mean) @ centred.T
  along = centred @ maps.directions
  asked = unit_rows(queries.new - maps.new_mean) @ maps.covariances.T
  for penalty, settings in itertools.groupby(policies, lambda one: one.penalty):
    gained = along * maps.gains(penalty)
    new_scores = asked @ gained.T
    new_squares = _squares(gained @ maps.covariances)
    for setting in settings:
      weight = setting.old_weight / maps.old_scale
      lengths = _lengths(new_squares + weight**2 * old_squares)
      yield (new_scores + weight * old_scores) / lengths


def _squares(rows: np.ndarray) -> np.ndarray:
  """The squared length of each row."""
  return np.einsum('nd,nd->n', rows, rows)


def _lengths(squares: np.ndarray) -> np.ndarray:
  return np.sqrt(np.maximum(squares, 1e-12))
