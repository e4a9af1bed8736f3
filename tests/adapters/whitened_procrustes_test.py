"""Both spaces whitened before the rotation."""

import numpy as np
import pytest
import scipy.linalg

from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.errors import InputError
from tests.adapters.small_stores import (
  mean_cosine,
  random_rotation,
  unit,
  write,
)

_RANDOM = np.random.default_rng(0)
_NEW = _RANDOM.normal(size=(300, 5)) * [4, 2, 1, 1, 0.5]


def _fit(tmp_path, old, **options):
  stores = write(tmp_path / 'new', _NEW), write(tmp_path / 'old', old)
  return fit_adapter('whitened_procrustes', *stores, **options)


def _shrunk(rows, shrinkage):
  covariance = np.cov(rows.T, bias=True)
  mean = np.trace(covariance) / len(covariance)
  return (1 - shrinkage) * covariance + shrinkage * mean * np.eye(
    len(covariance)
  )


@pytest.mark.parametrize('shrinkage', [0.05, 1.0])
def test_it_is_whitening_rotation_and_colouring(tmp_path, shrinkage):
  old = _RANDOM.normal(size=(300, 5)) + _NEW
  x, y = unit(_NEW), unit(old)
  roots = [
    np.real(scipy.linalg.sqrtm(_shrunk(rows, shrinkage))) for rows in (x, y)
  ]
  white_x = (x - x.mean(axis=0)) @ np.linalg.inv(roots[0])
  white_y = (y - y.mean(axis=0)) @ np.linalg.inv(roots[1])
  rotation, _ = scipy.linalg.orthogonal_procrustes(white_x, white_y)

  np.testing.assert_allclose(
    _fit(tmp_path, old, shrinkage=shrinkage).apply(_NEW),
    white_x @ rotation @ roots[1] + y.mean(axis=0),
    atol=1e-4,
  )


@pytest.mark.parametrize('old_width', [3, 8])
def test_any_two_widths_are_brought_together(tmp_path, old_width):
  old = unit(_NEW) @ _RANDOM.normal(size=(5, old_width))
  mapped = _fit(tmp_path, old).apply(_NEW)

  assert mapped.shape == (300, old_width)
  assert mean_cosine(mapped, old) > 0.9


def test_a_space_that_was_stretched_is_followed_as_a_rotation_cannot(tmp_path):
  old = unit(_NEW) @ random_rotation(5) * [5, 1, 1, 1, 0.2]
  stores = write(tmp_path / 'a/new', _NEW), write(tmp_path / 'a/old', old)
  turned = fit_adapter('procrustes', *stores).apply(_NEW)

  assert mean_cosine(_fit(tmp_path, old).apply(_NEW), old) > (
    mean_cosine(turned, old) + 0.05
  )


@pytest.mark.parametrize('shrinkage', [0, -0.1, 1.1, float('nan')])
def test_a_shrinkage_out_of_range_is_refused(tmp_path, shrinkage):
  with pytest.raises(InputError, match='whitened_procrustes: a shrinkage of'):
    _fit(tmp_path, _NEW + 1, shrinkage=shrinkage)
