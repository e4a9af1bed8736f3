"""What vectors look like as a whole."""

import numpy as np
import pytest

from advbct_jax.adapters.spaces import describe_space
from tests.adapters.small_stores import unit

_RANDOM = np.random.default_rng(0)


def _draw(count, mean, scales, seed):
  random = np.random.default_rng(seed)
  drawn = mean + scales * random.normal(size=(count, len(scales)))
  return unit(drawn).astype(np.float32)


_SCALES = np.linspace(2, 0.1, 40)
_MEAN = _RANDOM.normal(size=40)
_USUAL = _draw(2000, _MEAN, _SCALES, 1)


@pytest.mark.parametrize('count', [1, 20, 1000])
def test_more_vectors_of_the_kind_are_not_strange(count):
  assert describe_space(_USUAL).strangeness(_draw(count, _MEAN, _SCALES, 2)) < 2


@pytest.mark.parametrize(
  'others',
  [
    _draw(200, -_MEAN, _SCALES, 3),
    _draw(200, _MEAN, _SCALES[::-1], 3),
    np.roll(_USUAL, 1, axis=1),
    -_USUAL,
  ],
)
def test_vectors_of_another_kind_are_strange(others):
  assert describe_space(_USUAL).strangeness(others) > 2


def test_distances_are_those_of_the_gaussian_that_it_is():
  space = describe_space(_USUAL)
  basis, variances = space.basis.astype(float), space.variances.astype(float)
  covariance = basis.T @ np.diag(variances - space.noise) @ basis
  covariance += space.noise * np.eye(40)
  centred = _USUAL[:50] - space.mean
  inverse = np.linalg.inv(covariance)

  np.testing.assert_allclose(
    space.distances(_USUAL[:50]),
    np.einsum('nd,de,ne->n', centred, inverse, centred) / 40,
    rtol=1e-3,
  )


def test_what_is_drawn_has_the_mean_and_covariance_of_the_gaussian():
  space = describe_space(_USUAL)
  drawn = space.draw(100_000)
  basis, variances = space.basis.astype(float), space.variances.astype(float)
  covariance = basis.T @ np.diag(variances - space.noise) @ basis
  covariance += space.noise * np.eye(40)

  np.testing.assert_allclose(drawn.mean(axis=0), space.mean, atol=4e-3)
  np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=2e-3)
  np.testing.assert_array_equal(space.draw(100_000), drawn)


@pytest.mark.parametrize(
  'vectors',
  [
    np.eye(12, 30),
    np.tile(np.eye(1, 30), (12, 1)),
    np.repeat(np.eye(4, 30), 20, axis=0),
    np.ones((12, 1)),
  ],
)
def test_few_constant_and_duplicated_vectors_have_a_space(vectors):
  space = describe_space(vectors.astype(np.float32))
  assert np.isfinite(space.strangeness(vectors.astype(np.float32)))
