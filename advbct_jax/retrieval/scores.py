"""How much an upgrade gains, in itself and across encoders, over data sets."""

from collections.abc import Sequence

import numpy as np

from advbct_jax.errors import InputError


def upgrade_scores(
  old: Sequence[float],
  self_test: Sequence[float],
  cross_test: Sequence[float],
  independent: Sequence[float],
) -> dict[str, float]:
  """Scores a compatible encoder against the old and an independent one.

  With the independent encoder's self-test M*:

    P_up   = mean of σ((self − M*)/M*)
    P_comp = mean of σ((cross − old)/(M* − old))
    P_1    = mean of the harmonic mean of the two

  P_up is 50 where compatibility cost nothing. P_comp is 50 where new queries
  gain nothing on the old gallery, and 73.1 where they gain as much as the
  independent encoder does by re-embedding it.

  Args:
    old: a figure for each data set (mAP, any unit): old queries, old gallery.
    self_test: new queries, new gallery.
    cross_test: new queries, old gallery.
    independent: the same new model trained without any tie to the old one, on
      both sides.

  Returns:
    `p_up`, `p_comp` and `p_1`, times 100.

  Raises:
    InputError: if the independent figure is zero, or that of the old encoder;
      the scores are then undefined.

  References:
    Pan et al., Boundary-aware backward-compatible representation via
    adversarial learning in image retrieval, CVPR 2023.

  >>> scores = upgrade_scores([50.0], [80.0], [60.0], [80.0])
  >>> {name: round(score, 2) for name, score in scores.items()}
  {'p_up': 50.0, 'p_comp': 58.26, 'p_1': 53.81}
  """
  old_figures = np.asarray(old, float)
  reference = np.asarray(independent, float)
  gain = reference - old_figures
  if (reference == 0).any() or (gain == 0).any():
    raise InputError(
      f'scores: the independent encoder reaches {reference.tolist()} and the '
      f'old one {old_figures.tolist()}. The scores divide by the first and by '
      'the difference, which must not be zero; judge on other data sets or '
      'leave the independent encoder out.'
    )
  up = _sigmoid((np.asarray(self_test, float) - reference) / reference)
  comp = _sigmoid((np.asarray(cross_test, float) - old_figures) / gain)
  both = 2 * up * comp / (up + comp)
  return {
    'p_up': 100 * float(up.mean()),
    'p_comp': 100 * float(comp.mean()),
    'p_1': 100 * float(both.mean()),
  }


def _sigmoid(x: np.ndarray) -> np.ndarray:
  # 1/(1 + exp(−x)), without its overflow far below 0.
  return (1 + np.tanh(x / 2)) / 2
