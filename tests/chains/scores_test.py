import numpy as np
import pytest

from advbct_jax.chains.scores import average_accuracy, average_compatibility


@pytest.mark.parametrize(
  ('matrix', 'strict', 'counting_ties'),
  [
    # One upgrade, better and worse on the old gallery than old queries.
    ([[50, 0], [51, 60]], 1, 1),
    ([[50, 0], [49, 60]], 0, 0),
    ([[50, 0], [50, 60]], 1, 0),
    # Of (2, 1), (3, 1) and (3, 2) one is worse, one ties.
    ([[50, 99, 99], [50, 60, 99], [45, 61, 70]], 2 / 3, 1 / 3),
    # Held against the gallery's own queries, not against the step before.
    ([[50, 0, 0], [55, 40, 0], [52, 41, 30]], 1, 1),
  ],
)
def test_compatibility_is_the_share_of_galleries_that_no_upgrade_made_worse(
  matrix, strict, counting_ties
):
  matrix = np.array(matrix, float)
  assert average_compatibility(matrix) == pytest.approx(strict)
  assert average_compatibility(matrix, strict=False) == pytest.approx(
    counting_ties
  )


def test_accuracy_is_the_mean_of_the_lower_triangle_with_its_diagonal():
  matrix = np.array([[10, 99, 99], [20, 30, 99], [40, 50, 60]], float)
  assert average_accuracy(matrix) == pytest.approx(210 / 6)
