"""Rotations from few pairs, and in either direction."""

import warnings

import numpy as np
import pytest

from advbct_jax.adapters.adapter import save_adapter
from advbct_jax.adapters.fitting import FewPairsWarning, fit_adapter
from advbct_jax.adapters.procrustes import nearest_rotation
from advbct_jax.errors import InputError
from tests.adapters.small_stores import (
  mean_cosine,
  random_rotation,
  unit,
  write,
)

_RANDOM = np.random.default_rng(0)
_WIDTH = 24
_TURN = random_rotation(_WIDTH, seed=5)
_MANY = _RANDOM.normal(size=(600, _WIDTH))
_FRESH = _RANDOM.normal(size=(200, _WIDTH))


def _noisy(vectors, turn, noise=0.3):
  random = np.random.default_rng(6)
  return unit(vectors) @ turn + noise * random.normal(size=vectors.shape) / 5


def _fit(folder, count, turn=_TURN, **options):
  return fit_adapter(
    'procrustes',
    write(folder / 'new', _MANY[:count]),
    write(folder / 'old', _noisy(_MANY[:count], turn)),
    **options,
  )


def _cosine(adapter, turn=_TURN):
  return mean_cosine(adapter.apply(_FRESH), unit(_FRESH) @ turn)


def test_a_given_shrinkage_is_as_many_further_pairs(tmp_path):
  adapter = _fit(tmp_path, 100, shrinkage=0.5)
  new, old = unit(_MANY[:100]), unit(_noisy(_MANY[:100], _TURN))
  drawn = new.T @ old + 0.5 * 100 / _WIDTH * np.eye(_WIDTH)

  np.testing.assert_allclose(
    adapter.parameters['rotation'], nearest_rotation(drawn), atol=1e-4
  )


@pytest.mark.parametrize('count', [10, 15, 23])
def test_few_pairs_near_the_identity_are_drawn_to_it(tmp_path, count):
  near = nearest_rotation(np.eye(_WIDTH) + 0.05 * _TURN)
  with pytest.warns(FewPairsWarning, match=f'{count} pairs .*wanted: 24 or'):
    drawn = _fit(tmp_path / 'a', count, near)
  with pytest.warns(FewPairsWarning):
    plain = _fit(tmp_path / 'b', count, near, shrinkage=0.0)

  assert _cosine(drawn, near) > 0.95
  assert _cosine(drawn, near) > _cosine(plain, near) + 0.1
  rotation = drawn.parameters['rotation']
  np.testing.assert_allclose(rotation @ rotation.T, np.eye(_WIDTH), atol=1e-4)


@pytest.mark.filterwarnings(
  'ignore::advbct_jax.adapters.fitting.FewPairsWarning'
)
@pytest.mark.parametrize('as_path', [True, False])
def test_few_pairs_are_drawn_to_an_earlier_map(tmp_path, as_path):
  prior = _fit(tmp_path / 'many', 600)
  save_adapter(prior, tmp_path / 'prior')
  given = tmp_path / 'prior' if as_path else prior

  alone = _fit(tmp_path / 'alone', 12)
  drawn = _fit(tmp_path / 'few', 12, prior=given)

  assert drawn.card.options['prior'] == prior.digest
  assert _cosine(drawn) > 0.95 > 0.8 > _cosine(alone)


@pytest.mark.filterwarnings(
  'ignore::advbct_jax.adapters.fitting.FewPairsWarning'
)
def test_a_prior_that_is_wrong_is_not_drawn_to(tmp_path):
  wrong = _fit(tmp_path / 'wrong', 600, random_rotation(_WIDTH, seed=8))
  with_it = _fit(tmp_path / 'a', 500, prior=wrong)

  assert _cosine(with_it) > 0.99


def test_enough_pairs_are_fitted_as_ever_and_the_card_says_no_more(tmp_path):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    adapter = _fit(tmp_path, 24)
  new, old = unit(_MANY[:24]), unit(_noisy(_MANY[:24], _TURN))

  np.testing.assert_allclose(
    adapter.parameters['rotation'], nearest_rotation(new.T @ old), atol=1e-3
  )
  assert adapter.card.options == {'seed': 0}


def test_duplicates_don_t_make_few_pairs_many(tmp_path):
  rows = np.repeat(_MANY[:12], 20, axis=0)
  old = np.repeat(_noisy(_MANY[:12], np.eye(_WIDTH)), 20, axis=0)
  with pytest.warns(FewPairsWarning, match='240 pairs, of which 12 differ'):
    fit_adapter(
      'procrustes', write(tmp_path / 'new', rows), write(tmp_path / 'old', old)
    )


def test_few_pairs_between_two_widths_need_a_prior(tmp_path):
  stores = (
    write(tmp_path / 'new', _MANY[:12]),
    write(tmp_path / 'old', _MANY[:12, :20]),
  )
  with (
    pytest.warns(FewPairsWarning),
    pytest.raises(InputError, match=r'12 pairs are too few .* Wanted: 24 or'),
  ):
    fit_adapter('procrustes', *stores)


@pytest.mark.parametrize('shrinkage', [-1, float('nan'), float('inf')])
def test_a_shrinkage_out_of_range_is_refused(tmp_path, shrinkage):
  with pytest.raises(InputError, match='procrustes: a shrinkage of'):
    _fit(tmp_path, 100, shrinkage=shrinkage)


@pytest.mark.parametrize('change', ['kind', 'direction', 'width'])
def test_a_prior_of_something_else_is_refused(tmp_path, change):
  kind = 'ridge' if change == 'kind' else 'procrustes'
  width = 20 if change == 'width' else _WIDTH
  prior = fit_adapter(
    kind,
    write(tmp_path / 'p/new', _MANY[:, :width]),
    write(tmp_path / 'p/old', _MANY[:, :width] + 1),
    direction='forward' if change == 'direction' else 'backward',
  )
  with pytest.raises(
    InputError, match=r'the prior is .*; wanted: procrustes b'
  ):
    _fit(tmp_path, 100, prior=prior)


@pytest.mark.parametrize('old_width', [4, 6, 9])
def test_forward_old_vectors_keep_their_angles_if_there_is_room(
  tmp_path, old_width
):
  old = _RANDOM.normal(size=(300, old_width))
  new = np.pad(old, [(0, 0), (0, 3)])[:, :6] @ random_rotation(6)
  adapter = fit_adapter(
    'procrustes',
    write(tmp_path / 'new', new),
    write(tmp_path / 'old', old),
    direction='forward',
  )
  mapped = adapter.apply(old)

  assert mapped.shape == (300, 6)
  assert (adapter.dimension, adapter.compatible_dimension) == (6, 0)
  assert adapter.one_space == (old_width <= 6)
  assert mean_cosine(mapped, new) > 0.99
  if adapter.one_space:
    np.testing.assert_allclose(
      mapped @ mapped.T, unit(old) @ unit(old).T, atol=1e-5
    )
