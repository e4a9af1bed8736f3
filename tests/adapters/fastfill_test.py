"""A map forward that says how far off it may be."""

import numpy as np
import pytest

from advbct_jax.adapters import fastfill
from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.errors import InputError
from tests.adapters.small_stores import random_rotation, unit, write

_RANDOM = np.random.default_rng(0)
_OLD = _RANDOM.normal(size=(1200, 6))
_BENT = np.abs(unit(_OLD) @ random_rotation(6)) - 0.3


def _fit(tmp_path, new=_BENT, **options):
  stores = write(tmp_path / 'new', new), write(tmp_path / 'old', _OLD)
  return fit_adapter('fastfill', *stores, **{'hidden': 32, **options})


def test_it_follows_a_bend_that_ridge_cannot(tmp_path):
  adapter = _fit(tmp_path, steps=300, learning_rate=0.01)
  stores = write(tmp_path / 'new', _BENT), write(tmp_path / 'old', _OLD)
  ridge = fit_adapter('ridge', *stores, direction='forward')

  errors = [
    np.square(one.apply(_OLD) - unit(_BENT)).mean() for one in (adapter, ridge)
  ]
  assert adapter.card.direction == 'forward'
  assert errors[0] < 0.7 * errors[1]


def test_what_cannot_be_foretold_is_said_to_be_farther_off(tmp_path):
  random = np.random.default_rng(1)
  noisy = _OLD[:, 0] > 0
  new = unit(_OLD) + np.where(noisy, 1.0, 0.02)[:, None] * random.normal(
    size=_OLD.shape
  )
  adapter = _fit(tmp_path, new, steps=200, learning_rate=0.01)
  said = adapter.predict_uncertainty(_OLD)
  off = np.sqrt(np.square(adapter.apply(_OLD) - unit(new)).mean(axis=1))

  assert said.shape == (1200,)
  assert said[noisy].mean() > 1.5 * said[~noisy].mean()
  assert said.mean() == pytest.approx(off.mean(), rel=0.3)


def test_layers_that_took_up_their_normalisation_map_as_normalised_ones():
  random = np.random.default_rng(2)
  source = random.normal(size=(64, 5)).astype(np.float32)
  parameters = {
    'weights': random.normal(size=(5, 3)),
    'bias': random.normal(size=3),
    'first_weights': random.normal(size=(5, 8)),
    'first_scale': random.normal(size=8),
    'first_shift': random.normal(size=8),
    'second_weights': random.normal(size=(8, 8)),
    'second_scale': random.normal(size=8),
    'second_shift': random.normal(size=8),
    'out_weights': random.normal(size=(8, 3)),
  }
  vectors = source
  for layer in ('first', 'second'):
    linear = vectors @ parameters[f'{layer}_weights']
    deviation = np.sqrt(linear.var(axis=0) + 1e-5)
    vectors = np.maximum(
      (linear - linear.mean(axis=0)) / deviation * parameters[f'{layer}_scale']
      + parameters[f'{layer}_shift'],
      0,
    )
  wanted = (
    source @ parameters['weights']
    + parameters['bias']
    + vectors @ parameters['out_weights']
  )

  folded = fastfill._fold(parameters, fastfill._statistics(parameters, source))
  np.testing.assert_allclose(
    fastfill.apply(folded, source), wanted, rtol=1e-3, atol=1e-3
  )


def test_the_same_seed_gives_the_same_map(tmp_path):
  first, again, other = (
    _fit(tmp_path / str(number), steps=60, seed=seed).digest
    for number, seed in enumerate((1, 1, 2))
  )
  assert first == again != other


@pytest.mark.parametrize(
  'options',
  [{'steps': 0}, {'hidden': 0}, {'batch_size': 1}, {'learning_rate': 0.0}],
)
def test_impossible_options_are_refused(tmp_path, options):
  with pytest.raises(InputError, match=f'fastfill: .*{next(iter(options))}'):
    _fit(tmp_path, **options)


def test_backward_it_is_refused(tmp_path):
  with pytest.raises(InputError, match=r"'backward'; wanted: forward"):
    _fit(tmp_path, direction='backward')


def test_a_kind_that_cannot_say_how_far_off_it_is_names_one_that_can(tmp_path):
  stores = write(tmp_path / 'new', _BENT), write(tmp_path / 'old', _OLD)
  with pytest.raises(InputError, match='wanted: fastfill'):
    fit_adapter('ridge', *stores).predict_uncertainty(_OLD)
