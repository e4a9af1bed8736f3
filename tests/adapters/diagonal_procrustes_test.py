"""A rotation and scales after it."""

import numpy as np
import pytest
import scipy.linalg

from advbct_jax.adapters.fitting import fit_adapter
from tests.adapters.small_stores import unit, write


@pytest.mark.parametrize('direction', ['backward', 'forward'])
@pytest.mark.parametrize('old_width', [3, 5])
def test_each_scale_is_that_of_least_squares_after_the_rotation(
  tmp_path, old_width, direction
):
  random = np.random.default_rng(1)
  new = random.normal(size=(90, 5))
  old = new[:, :old_width] * np.arange(1, old_width + 1) + random.normal(
    size=(90, old_width)
  )
  adapter = fit_adapter(
    'diagonal_procrustes',
    write(tmp_path / 'new', new),
    write(tmp_path / 'old', old),
    direction=direction,
  )
  source, target = unit(new), unit(old)
  if direction == 'forward':
    source, target = target, source
  widest = max(source.shape[1], target.shape[1])
  padded_source, padded_target = (
    np.pad(rows, [(0, 0), (0, widest - rows.shape[1])])
    for rows in (source, target)
  )
  rotation, _ = scipy.linalg.orthogonal_procrustes(padded_source, padded_target)
  turned = (padded_source @ rotation)[:, : target.shape[1]]
  scales = [
    np.linalg.lstsq(turned[:, [column]], target[:, column], rcond=None)[0][0]
    for column in range(target.shape[1])
  ]

  np.testing.assert_allclose(adapter.apply(source), turned * scales, atol=1e-5)
