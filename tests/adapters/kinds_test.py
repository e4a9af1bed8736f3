"""What each kind of adapter can map, and how well."""

import functools

import numpy as np
import optax
import pytest

from advbct_jax.adapters import residual_mlp, ridge
from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.adapters.pairs import Pairs
from advbct_jax.adapters.procrustes import procrustes_rotation
from advbct_jax.errors import InputError
from tests.adapters.small_stores import (
  mean_cosine,
  random_rotation,
  unit,
  write,
)
from tests.products import products

_RANDOM = np.random.default_rng(0)
_NEW = _RANDOM.normal(size=(300, 6))


def _fit(tmp_path, kind, new, old, **options):
  stores = write(tmp_path / 'new', new), write(tmp_path / 'old', old)
  return fit_adapter(kind, *stores, **options)


def test_procrustes_finds_the_rotation_between_two_spaces():
  rotation = random_rotation(6)

  found = procrustes_rotation(3 * _NEW, _NEW @ rotation)

  np.testing.assert_allclose(found, rotation, atol=1e-9)


def test_procrustes_of_a_wider_space_puts_the_old_one_first():
  wide = _NEW.copy()
  wide[:, 4:] *= 1e-3  # what the old space has no room for
  new, old = wide @ random_rotation(6), wide[:, :4]

  found = procrustes_rotation(new, old)

  assert found.shape == (6, 6)
  np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-9)
  np.testing.assert_allclose((unit(new) @ found)[:, :4], unit(old), atol=1e-3)


def test_procrustes_leaves_the_cosines_among_new_vectors_as_they_were(tmp_path):
  adapter = _fit(tmp_path, 'procrustes', _NEW, _RANDOM.normal(size=(300, 4)))
  mapped = adapter.apply(5 * _NEW)

  assert adapter.one_space
  assert mapped.shape == (300, 6)
  assert (adapter.dimension, adapter.compatible_dimension) == (6, 4)
  np.testing.assert_allclose(
    unit(mapped) @ unit(mapped).T, unit(_NEW) @ unit(_NEW).T, atol=1e-5
  )


def test_procrustes_refuses_an_old_space_that_is_wider(tmp_path):
  with pytest.raises(InputError, match=r'width 6 cannot be .* of 8 dimensions'):
    _fit(tmp_path, 'procrustes', _NEW, np.ones((300, 8)))


@pytest.mark.parametrize('old_width', [3, 8])
def test_ridge_finds_a_linear_map_and_its_bias(tmp_path, old_width):
  weights = _RANDOM.normal(size=(6, old_width))
  old = unit(unit(_NEW) @ weights + 2)
  adapter = _fit(tmp_path, 'ridge', _NEW, old)
  exact = np.linalg.lstsq(np.c_[unit(_NEW), np.ones(300)], old, rcond=None)[0]

  assert not adapter.one_space
  assert adapter.dimension == old_width
  np.testing.assert_allclose(
    adapter.apply(_NEW), np.c_[unit(_NEW), np.ones(300)] @ exact, atol=1e-2
  )


def test_ridge_is_the_textbook_solution_for_a_given_penalty(tmp_path):
  old = unit(_RANDOM.normal(size=(300, 3)))
  adapter = _fit(tmp_path, 'ridge', _NEW, old, penalty=0.5)

  x = unit(_NEW) - unit(_NEW).mean(axis=0)
  penalty = 0.5 * np.square(x).sum() / 6
  weights = np.linalg.solve(x.T @ x + penalty * np.eye(6), x.T @ old)
  np.testing.assert_allclose(
    adapter.apply(_NEW), x @ weights + old.mean(axis=0), atol=1e-5
  )


def test_ridge_takes_a_penalty_that_suits_the_noise(tmp_path):
  clean = unit(_NEW) @ random_rotation(6)
  noise = _RANDOM.normal(size=clean.shape)
  penalties = []
  for name, old in (('clean', clean), ('noise', noise)):
    pairs = Pairs(
      write(tmp_path / name / 'new', _NEW[:40]),
      write(tmp_path / name / 'old', old[:40]),
    )
    parts = ridge.sum_pairs(pairs, pairs.held_out(0))
    penalties.append(ridge.choose_penalty(*parts))

  assert penalties[0] < penalties[1]


@pytest.mark.parametrize('penalty', [0, -1, float('nan')])
def test_a_penalty_that_is_none_is_refused(tmp_path, penalty):
  with pytest.raises(InputError, match='ridge: a penalty of'):
    _fit(tmp_path, 'ridge', _NEW, _NEW + 1, penalty=penalty)


def _bent(vectors):
  """What no linear map can follow."""
  return np.abs(unit(vectors) @ random_rotation(6)) - 0.3


def test_the_mlp_follows_a_bend_that_ridge_cannot(tmp_path):
  new = np.random.default_rng(1).normal(size=(2000, 6))
  fitted, fresh = slice(1000), slice(1000, 2000)
  cosines = {
    kind: mean_cosine(
      _fit(tmp_path / kind, kind, new[fitted], _bent(new[fitted])).apply(
        new[fresh]
      ),
      _bent(new[fresh]),
    )
    for kind in ('ridge', 'residual_mlp')
  }

  assert cosines['residual_mlp'] > cosines['ridge'] + 0.1


def test_the_mlp_is_not_worse_than_its_start_on_what_is_held_out(tmp_path):
  # Nothing can be learnt here: every step away from the start is overfitting.
  random = np.random.default_rng(2)
  new, old = random.normal(size=(2, 200, 6))
  pairs = Pairs(write(tmp_path / 'a', new), write(tmp_path / 'b', old))
  options = ADAPTERS['residual_mlp'].options | {'learning_rate': 0.1}
  held_out = pairs.held_out(0)
  rows = np.flatnonzero(held_out)
  start = residual_mlp._start(pairs, held_out, 0, None, 0)

  fitted = residual_mlp.fit(pairs, 0, **options)

  held_new, held_old = pairs.read(rows)
  assert residual_mlp._loss(fitted, held_new, held_old) <= residual_mlp._loss(
    start, held_new, held_old
  )


def test_the_mlp_is_the_same_for_the_same_seed_alone(tmp_path):
  first, again, other = (
    _fit(
      tmp_path / str(number),
      'residual_mlp',
      _NEW,
      _bent(_NEW),
      seed=seed,
      steps=60,
    ).parameters
    for number, seed in enumerate((1, 1, 2))
  )

  for name in first:
    np.testing.assert_array_equal(first[name], again[name])
  assert (first['out_weights'] != other['out_weights']).any()


@pytest.mark.parametrize(
  'options', [{'steps': 0}, {'batch_size': 0}, {'learning_rate': -1.0}]
)
def test_impossible_options_of_the_mlp_are_refused(tmp_path, options):
  with pytest.raises(InputError, match=f'{next(iter(options))}'):
    _fit(tmp_path, 'residual_mlp', _NEW, _NEW + 1, **options)


def test_the_mlp_is_trained_and_measured_in_full_float32():
  new, old = np.ones((4, 6), np.float32), np.ones((4, 3), np.float32)
  parameters = {
    'weights': np.ones((6, 3), np.float32),
    'bias': np.ones(3, np.float32),
    'hidden_weights': np.ones((6, 12), np.float32),
    'hidden_bias': np.ones(12, np.float32),
    'out_weights': np.ones((12, 3), np.float32),
  }
  optimizer = optax.adam(1e-3)
  step = functools.partial(residual_mlp._take_step, optimizer.update)
  for found in (
    products(residual_mlp._loss, parameters, new, old),
    products(step, parameters, optimizer.init(parameters), new, old),
  ):
    assert len(found) >= 3
    assert all(highest for _, _, highest in found)
