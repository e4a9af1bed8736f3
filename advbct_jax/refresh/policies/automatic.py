"""The policy that chooses, without labels, how the old part is searched."""

import dataclasses

from advbct_jax.refresh.agreement import choose
from advbct_jax.refresh.known_pairs import KnownPairs
from advbct_jax.refresh.policies.one_space import Old
from advbct_jax.refresh.policies.predicted import (
  FEWEST_PAIRS,
  Predict,
  PredictInterpolate,
  score_predictions,
)
from advbct_jax.refresh.policies.rotated import InterpolateBy, Refit
from advbct_jax.refresh.policy import OldPart, Policy

_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)
_INTERPOLATED_WEIGHTS = (0.2, 0.35, 0.5, 0.65, 0.8)
_SLOPES = (0.0, 2.0, 4.0, 8.0, 16.0)
_OLD_WEIGHTS = (0.0, 0.15, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.8)


@dataclasses.dataclass(frozen=True)
class Auto(Policy):
  """The candidate that agrees best with the new encoder on held-out pairs.

  Candidates are predictions with several penalties and weights of the old
  similarity. Both encoders embed a query.
  """

  needs_old = True
  label = 'auto, both encoders'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Chooses and fits; with few pairs, old queries go on."""
    if pairs.count < FEWEST_PAIRS:
      return Old().fit(pairs)
    candidates = [
      PredictInterpolate(penalty, old_weight)
      for penalty in _PENALTIES
      for old_weight in _OLD_WEIGHTS
    ]
    return choose(candidates, pairs, score_predictions).fit(pairs)


@dataclasses.dataclass(frozen=True)
class AutoNew(Policy):
  """The same where the new encoder alone embeds a query."""

  label = 'auto, new encoder alone'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Chooses and fits.

    Raises:
      InputError: if there are too few pairs for any policy without the old
        encoder.
    """
    if pairs.count < FEWEST_PAIRS:
      return Refit().fit(pairs)
    candidates = [Predict(penalty) for penalty in _PENALTIES]
    return choose(candidates, pairs, score_predictions).fit(pairs)


@dataclasses.dataclass(frozen=True)
class InterpolateAdaptive(Policy):
  """Interpolation whose weight follows each query, chosen the same way.

  References:
    Ricci et al., NeurIPS 2026 (arXiv 2609.39836), whose best weight it is.
  """

  needs_old = True
  label = 'interpolated, adaptive weight'

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Chooses and fits."""
    candidates = [
      InterpolateBy(old_weight, slope)
      for old_weight in _INTERPOLATED_WEIGHTS
      for slope in _SLOPES
    ]
    return choose(candidates, pairs).fit(pairs)
