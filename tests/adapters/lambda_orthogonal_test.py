"""An affine map that keeps near the rotations."""

import numpy as np
import pytest

from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.adapters.lambda_orthogonal import measure_loss
from advbct_jax.errors import InputError
from tests.adapters.small_stores import random_rotation, unit, write
from tests.products import products

_RANDOM = np.random.default_rng(0)
_NEW = _RANDOM.normal(size=(300, 6))
_OLD = unit(_NEW) @ random_rotation(6) * [3, 1, 1, 1, 1, 0.3] + 0.1


def _fit(tmp_path, old=_OLD, **options):
  stores = write(tmp_path / 'new', _NEW), write(tmp_path / 'old', old)
  return fit_adapter('lambda_orthogonal', *stores, **options)


def _distance(adapter):
  weights = adapter.parameters['weights']
  narrow = weights if weights.shape[0] > weights.shape[1] else weights.T
  return np.linalg.norm(narrow.T @ narrow - np.eye(narrow.shape[1]))


@pytest.mark.parametrize('shape', [(6, 6), (6, 4), (4, 6)])
def test_the_loss_is_that_of_the_paper_over_all_pairs(shape):
  width, target_width = shape
  x = _RANDOM.normal(size=(50, width))
  y = _RANDOM.normal(size=(50, target_width))
  weights = _RANDOM.normal(size=shape)
  x -= x.mean(axis=0)
  y -= y.mean(axis=0)
  errors = np.square(x @ weights - y).sum(axis=1).mean()
  gram = weights @ weights.T
  if width > target_width:
    gram = weights.T @ weights
  distance = np.sqrt(np.square(gram - np.eye(len(gram))).sum())
  penalty = distance / (1 + np.exp(-0.7 * (distance - 2.0)))

  found = measure_loss(weights, x.T @ x / 50, x.T @ y / 50, 2.0, 0.7)

  assert float(found) + np.square(y).sum() / 50 == pytest.approx(
    errors + penalty, rel=1e-4
  )


def test_a_threshold_of_nothing_stays_a_rotation_and_a_wide_one_does_not(
  tmp_path,
):
  options = {'steps': 300, 'learning_rate': 0.02, 'sharpness': 10.0}
  strict, free = (
    _fit(tmp_path, threshold=threshold, **options) for threshold in (0.0, 50.0)
  )
  ridge = fit_adapter(
    'ridge',
    write(tmp_path / 'new', _NEW),
    write(tmp_path / 'old', _OLD),
    penalty=1e-6,
  )

  assert _distance(strict) < 0.1
  assert _distance(free) > 1
  np.testing.assert_allclose(free.apply(_NEW), ridge.apply(_NEW), atol=0.05)


@pytest.mark.parametrize('old_width', [4, 9])
def test_any_two_widths_are_brought_together(tmp_path, old_width):
  old = _RANDOM.normal(size=(300, old_width))
  assert _fit(tmp_path, old, steps=2).apply(_NEW).shape == (300, old_width)


@pytest.mark.parametrize(
  'options',
  [{'threshold': -1.0}, {'sharpness': 0}, {'steps': 0}, {'learning_rate': -1}],
)
def test_impossible_options_are_refused(tmp_path, options):
  with pytest.raises(InputError, match='lambda_orthogonal: threshold'):
    _fit(tmp_path, **options)


def test_the_loss_is_measured_in_full_float32():
  square = np.ones((6, 6), np.float32)
  found = products(measure_loss, square, square, square, 1.0, 1.0)
  assert len(found) >= 2
  assert all(highest for _, _, highest in found)
