"""An affine map of low rank."""

import numpy as np
import pytest

from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.errors import InputError
from tests.adapters.small_stores import unit, write

_RANDOM = np.random.default_rng(0)
_NEW = _RANDOM.normal(size=(200, 6))
_OLD = unit(_NEW) @ _RANDOM.normal(size=(6, 4)) + 0.2


def _stores(tmp_path):
  return write(tmp_path / 'new', _NEW), write(tmp_path / 'old', _OLD)


@pytest.mark.parametrize('rank', [1, 2, 3])
def test_it_is_the_best_map_of_its_rank_for_the_penalty(tmp_path, rank):
  adapter = fit_adapter(
    'low_rank_affine', *_stores(tmp_path), rank=rank, penalty=0.3
  )
  # Eckart and Young, with the penalty as 6 more rows: √(λ v N)·I to be
  # mapped to nothing.
  x = unit(_NEW) - unit(_NEW).mean(axis=0)
  y = unit(_OLD) - unit(_OLD).mean(axis=0)
  rows = np.vstack([x, np.sqrt(0.3 * np.square(x).sum() / 6) * np.eye(6)])
  wanted = np.vstack([y, np.zeros((6, 4))])
  full = np.linalg.lstsq(rows, wanted, rcond=None)[0]
  _, _, directions = np.linalg.svd(rows @ full)
  weights = full @ directions[:rank].T @ directions[:rank]

  mapped = adapter.apply(_NEW)

  np.testing.assert_allclose(
    mapped, x @ weights + unit(_OLD).mean(axis=0), atol=1e-5
  )
  spread = mapped - mapped.mean(axis=0)
  assert np.linalg.matrix_rank(spread, tol=1e-3) == rank


def test_a_rank_above_the_widths_is_ridge(tmp_path):
  low, ridge = (
    fit_adapter(kind, *_stores(tmp_path), **options).apply(_NEW)
    for kind, options in (('low_rank_affine', {'rank': 64}), ('ridge', {}))
  )
  np.testing.assert_allclose(low, ridge, atol=1e-5)


@pytest.mark.parametrize('rank', [0, -1])
def test_no_rank_is_refused(tmp_path, rank):
  with pytest.raises(InputError, match=f'a rank of {rank} was asked for'):
    fit_adapter('low_rank_affine', *_stores(tmp_path), rank=rank)
