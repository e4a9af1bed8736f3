"""Which rows belong together, and what cannot be fitted."""

import numpy as np
import pytest

from advbct_jax.adapters.fitting import (
  FewPairsWarning,
  fit_adapter,
  mean_cosine,
)
from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.errors import InputError
from tests.adapters.small_stores import QUICK, ids_of, random_rotation, write

_NEW = np.random.default_rng(0).normal(size=(150, 5))
_OLD = _NEW @ random_rotation(5)


@pytest.mark.parametrize('kind', ADAPTERS)
def test_rows_are_matched_by_the_ids_of_their_images(tmp_path, kind):
  order = np.random.default_rng(1).permutation(170)
  more = np.concatenate([_OLD, np.ones((20, 5))])[order]
  new = write(tmp_path / 'new', _NEW, chunk_rows=64)
  shuffled = write(
    tmp_path / 'old', more, [ids_of(170)[row] for row in order], chunk_rows=33
  )
  in_order = write(tmp_path / 'same' / 'old', _OLD, chunk_rows=50)

  adapter = fit_adapter(kind, new, shuffled, **QUICK.get(kind, {}))
  wanted = fit_adapter(kind, new, in_order, **QUICK.get(kind, {}))

  assert adapter.digest == wanted.digest
  # No other kind is kept from turning by its own definition.
  if kind != 'drift':
    assert mean_cosine(adapter, new, shuffled) > 0.99


def test_images_that_the_old_store_lacks_are_named(tmp_path):
  new = write(tmp_path / 'new', _NEW)
  old = write(tmp_path / 'old', _OLD[:148])
  with pytest.raises(InputError, match=r'2 of the 150 images .* as image148'):
    fit_adapter('ridge', new, old)


@pytest.mark.parametrize('kind', ADAPTERS)
def test_fewer_images_than_a_tenth_can_be_held_out_of_are_refused(
  tmp_path, kind
):
  new = write(tmp_path / 'new', np.eye(9, 20))
  with pytest.raises(InputError, match=r'9 images.*wanted: 10 or more'):
    fit_adapter(kind, new, write(tmp_path / 'old', np.eye(9, 20) + 1))


def test_an_unknown_kind_is_refused(tmp_path):
  new = write(tmp_path / 'new', _NEW)
  with pytest.raises(
    InputError, match=r"'cubic' .*procrustes, ridge, residual"
  ):
    fit_adapter('cubic', new, write(tmp_path / 'old', _OLD))


def test_an_option_of_another_kind_is_refused(tmp_path):
  new = write(tmp_path / 'new', _NEW)
  with pytest.raises(InputError, match='ridge was told steps; wanted: seed, p'):
    fit_adapter('ridge', new, write(tmp_path / 'old', _OLD), steps=3)


def test_two_stores_of_one_encoder_are_refused(tmp_path):
  new = write(tmp_path / 'new', _NEW)
  with pytest.raises(InputError, match='of one encoder'):
    fit_adapter('ridge', new, new)


def test_an_adapter_says_between_which_encoders_it_maps(tmp_path):
  new = write(tmp_path / 'new', _NEW, encoder='big')
  card = fit_adapter('ridge', new, write(tmp_path / 'old', _OLD), seed=3).card

  assert card.new == {
    'encoder': 'big',
    'weights': 'new',
    'dimension': 5,
    'compatible_dimension': 0,
    'preprocessing': 'none',
    'compute_dtype': 'float32',
  }
  assert card.old['weights'] == 'old'
  assert card.images['count'] == 150
  assert card.options == {'seed': 3, 'penalty': None}


@pytest.mark.parametrize('kind', ADAPTERS)
def test_images_with_a_zero_vector_on_either_side_are_left_out(tmp_path, kind):
  new, old = _NEW.copy(), _OLD.copy()
  new[[3, 70]], old[[3, 149]] = 0, 0
  kept = np.delete(np.arange(150), [3, 70, 149])
  ids = [ids_of(150)[row] for row in kept]
  with_zeros = [
    write(tmp_path / name, rows, chunk_rows=64)
    for name, rows in (('new', new), ('old', old))
  ]
  without = [
    write(tmp_path / 'without' / name, rows[kept], ids, chunk_rows=64)
    for name, rows in (('new', new), ('old', old))
  ]
  here, there = (
    fit_adapter(kind, *stores, **QUICK.get(kind, {}))
    for stores in (with_zeros, without)
  )

  # Not the parameters: sums over other chunks are rounded otherwise.
  np.testing.assert_allclose(here.apply(_NEW), there.apply(_NEW), atol=2e-3)
  assert mean_cosine(here, *with_zeros) == pytest.approx(
    mean_cosine(there, *without), abs=1e-6
  )


def test_too_few_images_without_the_zero_vectors_are_refused(tmp_path):
  new = write(tmp_path / 'new', _NEW)
  old = np.zeros_like(_OLD)
  old[:9] = _OLD[:9]
  with pytest.raises(InputError, match='9 images whose vectors are not zero'):
    fit_adapter('ridge', new, write(tmp_path / 'old', old))


@pytest.mark.parametrize('kind', ADAPTERS)
def test_fewer_pairs_than_components_are_fitted_and_said(tmp_path, kind):
  random = np.random.default_rng(4)
  stores = (
    write(tmp_path / 'new', random.normal(size=(14, 20))),
    write(tmp_path / 'old', random.normal(size=(14, 20))),
  )
  with pytest.warns(FewPairsWarning, match='14 pairs are few .*wanted: 20 or'):
    adapter = fit_adapter(kind, *stores, **QUICK.get(kind, {}))
  assert np.isfinite(adapter.apply(np.eye(20))).all()


@pytest.mark.parametrize('old_width', [3, 5, 8])
@pytest.mark.parametrize('kind', ADAPTERS)
def test_forward_old_vectors_are_mapped_into_the_new_space(
  tmp_path, kind, old_width
):
  if ADAPTERS[kind].equal_widths and old_width != 5:
    pytest.skip('of equal widths alone')
  old = np.random.default_rng(5).normal(size=(150, old_width))
  stores = write(tmp_path / 'new', _NEW), write(tmp_path / 'old', old)
  adapter = fit_adapter(
    kind, *stores, direction='forward', **QUICK.get(kind, {})
  )

  assert adapter.card.direction == 'forward'
  assert adapter.card.source['weights'] == 'old'
  assert (adapter.dimension, adapter.compatible_dimension) == (5, 0)
  assert adapter.apply(old).shape == (150, 5)


@pytest.mark.parametrize('kind', sorted({*ADAPTERS} - {'fastfill', 'fct'}))
def test_forward_is_backward_with_the_stores_in_each_other_s_place(
  tmp_path, kind
):
  new, old = write(tmp_path / 'new', _NEW), write(tmp_path / 'old', _OLD)
  options = QUICK.get(kind, {})
  forward = fit_adapter(kind, new, old, direction='forward', **options)
  backward = fit_adapter(kind, old, new, **options)

  np.testing.assert_array_equal(forward.apply(_OLD), backward.apply(_OLD))
  assert mean_cosine(forward, new, old) == mean_cosine(backward, old, new)


def test_a_direction_that_there_is_not_is_refused(tmp_path):
  stores = write(tmp_path / 'new', _NEW), write(tmp_path / 'old', _OLD)
  with pytest.raises(InputError, match="'sideways'; wanted: backward or forw"):
    fit_adapter('ridge', *stores, direction='sideways')
