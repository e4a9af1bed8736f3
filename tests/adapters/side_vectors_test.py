"""Side vectors of a third encoder, beside the old ones that are mapped."""

import json

import numpy as np
import pytest

from advbct_jax.adapters.adapter import load_adapter, save_adapter
from advbct_jax.adapters.fitting import fit_adapter, mean_cosine
from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.adapters.mapping import adapt_store
from advbct_jax.errors import InputError
from tests.adapters.small_stores import QUICK, ids_of, unit, write

_RANDOM = np.random.default_rng(0)
# What the old encoder and the third one know of a thing, the new one knows.
_OLD = _RANDOM.normal(size=(150, 4))
_SIDE = _RANDOM.normal(size=(150, 3))
_NEW = np.hstack([unit(_OLD), unit(_SIDE)]) @ _RANDOM.normal(size=(7, 5)) + 3
_KINDS = [kind for kind in ADAPTERS if ADAPTERS[kind].takes_side]


@pytest.fixture
def stores(tmp_path):
  return {
    'new_store': write(tmp_path / 'new', _NEW, chunk_rows=64),
    'old_store': write(tmp_path / 'old', _OLD, chunk_rows=50),
    'side_store': write(tmp_path / 'side', _SIDE, encoder='third'),
  }


def _fit(kind, stores):
  return fit_adapter(kind, **stores, direction='forward', **QUICK.get(kind, {}))


def _shuffled(path, vectors, more=0, seed=1, **changes):
  """The vectors in another order, and some of other images."""
  count = len(vectors) + more
  order = np.random.default_rng(seed).permutation(count)
  vectors = np.concatenate([vectors, np.ones((more, vectors.shape[1]))])
  ids = [ids_of(count)[row] for row in order]
  return write(path, vectors[order], ids, chunk_rows=33, **changes)


@pytest.mark.parametrize('kind', _KINDS)
def test_what_the_side_vectors_know_is_mapped(stores, kind):
  with_side = _fit(kind, stores)
  side_store = stores.pop('side_store')
  without = _fit(kind, stores)

  errors = [
    1 - mean_cosine(without, **stores),
    1 - mean_cosine(with_side, **stores, side_store=side_store),
  ]
  assert errors[1] < 0.5 * errors[0]


def test_ridge_is_that_of_joined_unit_vectors(tmp_path, stores):
  joined = np.hstack([unit(_OLD), unit(_SIDE)])
  adapter = fit_adapter('ridge', **stores, direction='forward', penalty=0.3)

  x, y = joined - joined.mean(axis=0), unit(_NEW)
  penalty = 0.3 * np.square(x).sum() / 7
  weights = np.linalg.solve(x.T @ x + penalty * np.eye(7), x.T @ y)
  np.testing.assert_allclose(
    adapter.apply(5 * _OLD, 7 * _SIDE), x @ weights + y.mean(axis=0), atol=1e-5
  )


@pytest.mark.parametrize('kind', _KINDS)
def test_side_vectors_are_matched_by_the_ids_of_their_images(
  tmp_path, stores, kind
):
  adapter = _fit(kind, stores)
  side = _shuffled(tmp_path / 'other/side', _SIDE, more=20, encoder='third')
  again = _fit(kind, stores | {'side_store': side})
  old = _shuffled(tmp_path / 'other/old', _OLD, seed=2)
  mapped = adapt_store(adapter, old, tmp_path / 'mapped', side)

  assert again.digest == adapter.digest
  rows = [int(name.removeprefix('image')) for name in old.ids()]
  assert mapped.ids() == old.ids()
  np.testing.assert_allclose(
    mapped.read(), adapter.apply(_OLD[rows], _SIDE[rows]), atol=1e-5
  )
  assert mapped.card.encoder == f'net+{kind}'
  assert (mapped.card.dimension, mapped.card.compatible_dimension) == (5, 0)


def test_images_without_a_side_vector_are_left_out(tmp_path, stores):
  side = _SIDE.copy()
  side[[3, 70]] = 0
  kept = np.delete(np.arange(150), [3, 70])
  zeros = write(tmp_path / 'zeros/side', side, encoder='third')
  fewer = write(
    tmp_path / 'fewer/new', _NEW[kept], [ids_of(150)[row] for row in kept]
  )
  here = _fit('ridge', stores | {'side_store': zeros})
  there = _fit('ridge', stores | {'new_store': fewer})
  np.testing.assert_allclose(
    here.apply(_OLD, _SIDE), there.apply(_OLD, _SIDE), atol=2e-3
  )


def test_the_card_names_the_side_encoder(tmp_path, stores):
  adapter = _fit('ridge', stores)
  save_adapter(adapter, tmp_path / 'kept')
  card = json.loads((tmp_path / 'kept/card.json').read_text())
  loaded = load_adapter(tmp_path / 'kept')

  assert card['side'] == stores['side_store'].card.identity()
  assert (card['side']['encoder'], card['side']['dimension']) == ('third', 3)
  assert loaded.card == adapter.card
  assert loaded.digest == adapter.digest
  np.testing.assert_array_equal(
    loaded.apply(_OLD, _SIDE), adapter.apply(_OLD, _SIDE)
  )


def test_one_fitted_without_says_nothing_of_them(stores):
  del stores['side_store']
  assert 'side' not in _fit('ridge', stores).card.describe()


@pytest.mark.parametrize('kind', sorted({*ADAPTERS} - {*_KINDS}))
def test_other_kinds_take_none(stores, kind):
  with pytest.raises(
    InputError, match=f'{kind} takes no side vectors; wanted: ridge or fct, or'
  ):
    fit_adapter(kind, **stores)


def test_backward_there_are_none(stores):
  with pytest.raises(InputError, match=r'ridge backward .*direction forward'):
    fit_adapter('ridge', **stores)


@pytest.mark.parametrize('same', ['new_store', 'old_store'])
def test_a_side_store_of_one_of_the_two_encoders_is_refused(stores, same):
  with pytest.raises(InputError, match=r'one encoder .*stores of three'):
    _fit('ridge', stores | {'side_store': stores[same]})


def test_a_side_store_that_lacks_images_is_refused(tmp_path, stores):
  adapter = _fit('ridge', stores)
  few = write(tmp_path / 'few/side', _SIDE[:148], encoder='third')
  message = '2 of the 150 images .* as image148'
  with pytest.raises(InputError, match=message):
    _fit('ridge', stores | {'side_store': few})
  with pytest.raises(InputError, match=message):
    adapt_store(adapter, stores['old_store'], tmp_path / 'mapped', few)
  assert not (tmp_path / 'mapped').exists()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({}, 'there are no side vectors, .* with those of third, of width 3'),
    ({'encoder': 'fourth'}, 'encoder: fourth there, wanted third'),
    ({'vectors': np.ones((150, 6))}, 'dimension: 6 there, wanted 3'),
  ],
)
def test_other_side_vectors_than_those_it_was_fitted_with_are_refused(
  tmp_path, stores, changes, message
):
  adapter = _fit('ridge', stores)
  side = None
  if changes:
    vectors = changes.pop('vectors', _SIDE)
    facts = {'encoder': 'third'} | changes
    side = write(tmp_path / 'other' / 'side', vectors, **facts)
  with pytest.raises(InputError, match=message):
    adapt_store(adapter, stores['old_store'], tmp_path / 'mapped', side)
  assert not (tmp_path / 'mapped').exists()


def test_side_vectors_that_are_not_wanted_are_refused(tmp_path, stores):
  side = stores.pop('side_store')
  adapter = _fit('ridge', stores)
  with pytest.raises(InputError, match=r'side vectors of train, and .*without'):
    adapt_store(adapter, stores['old_store'], tmp_path / 'mapped', side)
  with pytest.raises(InputError, match='was fitted without any'):
    adapter.apply(_OLD, _SIDE)


def test_arrays_of_side_vectors_that_do_not_fit_are_refused(stores):
  adapter = _fit('ridge', stores)
  with pytest.raises(InputError, match='there are no side vectors'):
    adapter.apply(_OLD)
  with pytest.raises(InputError, match=r'width 2; wanted: vectors of third'):
    adapter.apply(_OLD, _SIDE[:, :2])
  with pytest.raises(InputError, match='149 side vectors beside 150 vectors'):
    adapter.apply(_OLD, _SIDE[1:])


def test_side_vectors_of_other_images_under_the_same_ids_are_refused(tmp_path):
  random = np.random.default_rng(5)
  old, side = random.normal(size=(1200, 4)), random.normal(size=(1200, 3))
  new = write(tmp_path / 'new', np.hstack([unit(old), unit(side)]))
  stores = {'new_store': new, 'old_store': write(tmp_path / 'old', old)}
  right = write(tmp_path / 'side', side)
  _fit('ridge', stores | {'side_store': right})
  wrong = write(tmp_path / 'wrong/side', random.permutation(side))
  with pytest.raises(InputError, match=r'side and .*no nearer than others'):
    _fit('ridge', stores | {'side_store': wrong})
