"""Vectors that an adapter was not fitted to."""

import warnings

import numpy as np
import pytest

from advbct_jax.adapters.adapter import load_adapter, save_adapter
from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.adapters.mapping import adapt_store, adapted
from advbct_jax.adapters.plausibility import OutOfDomainWarning
from advbct_jax.errors import InputError
from tests.adapters.small_stores import QUICK, random_rotation, write
from tests.retrieval.small_sets import encoder, image_set

_WIDTH = 12
_SCALES = np.linspace(2, 0.2, _WIDTH)
_MEAN = np.random.default_rng(7).normal(size=_WIDTH)
_TURN = random_rotation(_WIDTH, seed=3)


def _draw(count, seed):
  random = np.random.default_rng(seed)
  return _MEAN + _SCALES * random.normal(size=(count, _WIDTH))


@pytest.fixture
def stores(tmp_path):
  vectors = _draw(400, 0)
  return (
    write(tmp_path / 'new', vectors),
    write(tmp_path / 'old', vectors @ _TURN),
  )


@pytest.mark.parametrize('direction', ['backward', 'forward'])
@pytest.mark.parametrize('kind', ADAPTERS)
def test_vectors_of_the_other_side_under_the_right_name_are_refused(
  tmp_path, stores, kind, direction
):
  if direction not in ADAPTERS[kind].directions:
    pytest.skip('not a direction of this kind')
  adapter = fit_adapter(
    kind, *stores, direction=direction, **QUICK.get(kind, {})
  )
  save_adapter(adapter, tmp_path / 'kept')
  right, wrong = ('new', 'old') if direction == 'backward' else ('old', 'new')
  fresh = {'new': _draw(300, 1), 'old': _draw(300, 1) @ _TURN}
  disguised = write(tmp_path / 'm' / right, fresh[wrong])
  honest = write(tmp_path / 'h' / right, fresh[right])

  with pytest.raises(InputError, match=f'look like those of the {wrong} enc'):
    adapt_store(load_adapter(tmp_path / 'kept'), disguised, tmp_path / 'mapped')
  assert not (tmp_path / 'mapped').exists()
  with warnings.catch_warnings():
    warnings.simplefilter('error', OutOfDomainWarning)
    adapt_store(adapter, honest, tmp_path / 'mapped')


def test_new_classes_of_a_compatible_encoder_are_not_taken_for_old_vectors(
  tmp_path,
):
  # It draws the classes that it knows together, near where they were; others it
  # leaves a little nearer to their old places.
  old, fresh = _draw(1000, 0), _draw(300, 1)
  shrink = np.linspace(0.3, 0.1, _WIDTH)
  old_store = write(tmp_path / 'old', old)
  adapter = fit_adapter(
    'procrustes',
    write(tmp_path / 'new', _MEAN + (old - _MEAN) * shrink),
    old_store,
  )
  spread = _MEAN + (fresh - _MEAN) * np.sqrt(3) * shrink
  unseen = write(tmp_path / 'unseen' / 'new', spread)
  disguised = write(tmp_path / 'disguised' / 'new', fresh)

  with pytest.warns(OutOfDomainWarning):
    adapt_store(adapter, unseen, tmp_path / 'mapped')
  with pytest.raises(InputError, match='look like those of the old encoder'):
    adapt_store(adapter, disguised, tmp_path / 'never')


@pytest.mark.parametrize('direction', ['backward', 'forward'])
def test_a_store_of_the_other_encoder_is_told_that_it_is_the_wrong_way_round(
  tmp_path, stores, direction
):
  adapter = fit_adapter('procrustes', *stores, direction=direction)
  wrong = stores[1] if direction == 'backward' else stores[0]
  with pytest.raises(InputError, match=f'it is {direction}, and maps to the v'):
    adapt_store(adapter, wrong, tmp_path / 'mapped')
  assert not (tmp_path / 'mapped').exists()


@pytest.mark.parametrize(
  'change', [lambda rows: -rows, lambda rows: rows[:, ::-1] * [3, *[1] * 11]]
)
@pytest.mark.parametrize('count', [40, 300])
def test_vectors_like_neither_side_are_mapped_with_a_warning(
  tmp_path, stores, change, count
):
  adapter = fit_adapter('ridge', *stores)
  odd = write(tmp_path / 'odd' / 'new', change(_draw(count, 1)))
  with pytest.warns(OutOfDomainWarning, match=r'\(ridge\) .* 400 of train'):
    mapped = adapt_store(adapter, odd, tmp_path / 'mapped')
  assert mapped.card.count == count


@pytest.mark.parametrize('count', [1, 5, 300])
def test_few_vectors_of_the_right_kind_are_mapped_in_silence(
  tmp_path, stores, count
):
  adapter = fit_adapter('ridge', *stores)
  store = write(tmp_path / 'few' / 'new', _draw(count, 1))
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    adapt_store(adapter, store, tmp_path / 'mapped')


def test_an_evaluation_warns_once(tmp_path, capsys):
  vectors = _draw(400, 0)
  odd = -_draw(200, 1)
  source = encoder(
    tmp_path / 'new',
    {'train': vectors, 'queries': odd[:50], 'gallery': odd[50:]},
  )
  old = write(tmp_path / 'old', vectors @ _TURN, image_set('train', 400).ids)
  adapter = fit_adapter('ridge', source(image_set('train', 400)), old)
  mapped = adapted(source, adapter, tmp_path / 'mapped')
  with warnings.catch_warnings(record=True) as caught:
    warnings.resetwarnings()
    mapped(image_set('queries', 50))
    mapped(image_set('gallery', 150))
  assert len(caught) == 1


def test_pairs_in_a_wrong_order_are_refused(tmp_path):
  vectors = _draw(1200, 0)
  new = write(tmp_path / 'new', vectors)
  old = vectors @ _TURN
  shuffled = np.random.default_rng(1).permutation(old)
  with pytest.raises(InputError, match='no nearer than others'):
    fit_adapter(
      'procrustes', new, write(tmp_path / 'shuffled' / 'old', shuffled)
    )
  fit_adapter('procrustes', new, write(tmp_path / 'old', old))


@pytest.mark.parametrize('direction', ['backward', 'forward'])
@pytest.mark.parametrize('side', ['new', 'old'])
def test_vectors_that_are_all_the_same_are_refused_by_name(
  tmp_path, side, direction
):
  rows = {'new': _draw(50, 0), 'old': _draw(50, 0)}
  rows[side] = np.tile(_MEAN, (50, 1))
  new, old = (write(tmp_path / name, rows[name]) for name in ('new', 'old'))
  with pytest.raises(InputError, match=f'{side}: all vectors are the same'):
    fit_adapter('ridge', new, old, direction=direction)
