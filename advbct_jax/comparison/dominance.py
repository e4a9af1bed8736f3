"""Which methods of a comparison are worth having, and which are beaten."""

import numpy as np
import pandas as pd

from advbct_jax.comparison.averages import (
  EQUAL,
  average,
  leave_out_reference,
  pooled_stds,
)
from advbct_jax.comparison.labels import row_label

# The axes of the choice: what a whole backfill gives, and what comes at once.
AXES = ['self', 'cross']


def frontier(means: pd.DataFrame) -> pd.DataFrame:
  """Finds the rows that no other row dominates, by their means.

  Args:
    means: `self` and `cross` of the rows that compete.

  Returns:
    Those for which no other is at least as good in self and in cross and better
    in one of them, by rising self.
  """
  return means[~_dominates(means).any(axis=0)].sort_values(
    'self', kind='stable'
  )


def describe_dominance(figures: pd.DataFrame) -> str:
  """Says in a paragraph which methods are dominated, and how clearly.

  Of several rows that dominate one, that is named which beats it in the most
  axes by more than the noise, and of those the one that beats it by most.

  Args:
    figures: of `averages.tabulate`, of one upgrade and data set.

  Returns:
    Markdown; empty where no row can serve an old gallery.
  """
  rivals = leave_out_reference(average(figures, ['method', 'start']))
  if rivals.empty:
    return ''
  means = rivals.xs('mean', axis='columns', level=1)[AXES]
  labels = [row_label(*key) for key in rivals.index]
  ahead = ', '.join(row_label(*key) for key in frontier(means).index)
  gains, dominates = _gains(means), _dominates(means)
  noise = np.stack([pooled_stds(rivals[axis]) for axis in AXES], axis=-1)
  # Nothing is more than the noise of single seeds, which is NaN.
  clear = gains > np.maximum(noise, EQUAL)
  clearly: list[str] = []
  barely: list[str] = []
  for beaten in np.flatnonzero(dominates.any(axis=0)):
    best = max(
      np.flatnonzero(dominates[:, beaten]),
      key=lambda by: (clear[by, beaten].sum(), gains[by, beaten].sum()),
    )
    is_clear, gain = clear[best, beaten], gains[best, beaten]
    told = ', '.join(
      f'{axis} {gain[n]:+.1f}'
      for n, axis in enumerate(AXES)
      if is_clear[n] or not is_clear.any()
    )
    (clearly if is_clear.any() else barely).append(
      f'**{labels[beaten]}** by {labels[best]} ({told})'
    )
  sentences = [
    f'On {figures["dataset"].iloc[0]}, the frontier of self and cross is '
    f'{ahead}.'
  ]
  if clearly:
    sentences.append(
      'Dominated, by more than one pooled standard deviation: '
      f'{"; ".join(clearly)}.'
    )
  if barely:
    sentences.append(
      'Dominated by their means alone, too closely or from too few seeds to '
      f'tell: {"; ".join(barely)}.'
    )
  return ' '.join(sentences)


def _gains(means: pd.DataFrame) -> np.ndarray:
  """[R, R, 2]: what each row has more than each other, in self and in cross."""
  values = means[AXES].to_numpy()
  return values[:, None] - values


def _dominates(means: pd.DataFrame) -> np.ndarray:
  """[R, R]: whether each row is at least as good as each other, and better."""
  gains = _gains(means)
  return (gains.min(axis=-1) >= -EQUAL) & (gains.max(axis=-1) > EQUAL)
