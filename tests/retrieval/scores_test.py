import math

import pytest

from advbct_jax.errors import InputError
from advbct_jax.retrieval.scores import upgrade_scores


def test_a_new_encoder_as_good_as_the_independent_one_scores_50_upward():
  assert upgrade_scores([40.0], [60.0], [50.0], [60.0])['p_up'] == 50.0


def test_a_cross_test_as_good_as_the_old_one_scores_50_in_compatibility():
  assert upgrade_scores([40.0], [60.0], [40.0], [60.0])['p_comp'] == 50.0


def test_the_harmonic_mean_is_taken_within_each_data_set():
  scores = upgrade_scores([40, 40], [60, 30], [40, 60], [60, 60])

  # σ(0) = 0.5 and σ(−½) = 0.377541; σ(0) = 0.5 and σ(1) = 0.731059.
  assert scores['p_up'] == pytest.approx(43.87703)
  assert scores['p_comp'] == pytest.approx(61.55293)
  # (0.5 + 0.497934)/2, not the 51.23 of the two means.
  assert scores['p_1'] == pytest.approx(49.89672, abs=1e-4)


def test_a_hopeless_cross_test_scores_0_without_overflow():
  scores = upgrade_scores([40.0], [60.0], [0.0], [40.01])

  assert scores['p_comp'] == 0.0
  assert not math.isnan(scores['p_1'])


@pytest.mark.parametrize('independent', [40.0, 0.0])
def test_undefined_scores_are_refused(independent):
  with pytest.raises(InputError, match='must not be zero'):
    upgrade_scores([40.0], [60.0], [50.0], [independent])
