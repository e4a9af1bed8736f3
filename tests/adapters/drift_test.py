"""The mean drift."""

import numpy as np
import pytest

from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.errors import InputError
from tests.adapters.small_stores import unit, write

_NEW, _OLD = np.random.default_rng(0).normal(size=(2, 80, 4))


@pytest.mark.parametrize('direction', ['backward', 'forward'])
def test_the_mean_difference_of_unit_vectors_is_taken_off(tmp_path, direction):
  stores = write(tmp_path / 'new', _NEW + 1), write(tmp_path / 'old', _OLD)
  adapter = fit_adapter('drift', *stores, direction=direction)
  source, target = unit(_NEW + 1), unit(_OLD)
  if direction == 'forward':
    source, target = target, source

  np.testing.assert_allclose(
    adapter.apply(3 * source[:5]),
    source[:5] - (source.mean(axis=0) - target.mean(axis=0)),
    atol=1e-6,
  )


@pytest.mark.parametrize('old_width', [3, 5])
def test_widths_that_differ_are_refused(tmp_path, old_width):
  new, old = np.ones((20, 4)), np.ones((20, old_width))
  with pytest.raises(InputError, match='drift: vectors of width 4 have no'):
    fit_adapter('drift', write(tmp_path / 'n', new), write(tmp_path / 'o', old))
