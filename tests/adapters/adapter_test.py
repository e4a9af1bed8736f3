"""Adapters on disk."""

import dataclasses
import json

import numpy as np
import pytest

from advbct_jax.adapters.adapter import Adapter, load_adapter, save_adapter
from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.adapters.mapping import adapt_store
from advbct_jax.embeddings.store import open_store
from advbct_jax.errors import InputError
from tests.adapters.small_stores import QUICK, write

_RANDOM = np.random.default_rng(0)
_NEW = _RANDOM.normal(size=(100, 5))
_OLD = _RANDOM.normal(size=(100, 3))


@pytest.fixture
def adapter(tmp_path):
  return fit_adapter(
    'ridge', write(tmp_path / 'new', _NEW), write(tmp_path / 'old', _OLD)
  )


@pytest.mark.parametrize('kind', ADAPTERS)
def test_an_adapter_comes_back_as_it_was_saved(tmp_path, kind):
  new, old = write(tmp_path / 'new', _NEW), write(tmp_path / 'old', _NEW + 1)
  adapter = fit_adapter(kind, new, old, **QUICK.get(kind, {}))
  save_adapter(adapter, tmp_path / 'kept')
  loaded = load_adapter(tmp_path / 'kept')

  assert sorted(path.name for path in (tmp_path / 'kept').iterdir()) == [
    'card.json',
    'weights.safetensors',
  ]
  assert loaded.card == adapter.card
  assert loaded.digest == adapter.digest
  np.testing.assert_array_equal(loaded.apply(_NEW), adapter.apply(_NEW))
  for side in ('source', 'target'):
    here, there = getattr(adapter, side), getattr(loaded, side)
    for field in dataclasses.fields(here):
      np.testing.assert_array_equal(
        getattr(here, field.name), getattr(there, field.name)
      )


def test_an_adapter_without_directions_and_spaces_is_read_as_before(
  tmp_path, adapter
):
  # As were written before either was known; their stores must stay theirs.
  earlier = Adapter(adapter.card, adapter.parameters)
  save_adapter(earlier, tmp_path / 'kept')
  card = json.loads((tmp_path / 'kept/card.json').read_text())
  loaded = load_adapter(tmp_path / 'kept')

  assert 'direction' not in card
  assert loaded.card.direction == 'backward'
  assert (loaded.source, loaded.target) == (None, None)
  assert loaded.digest == adapter.digest
  adapt_store(loaded, open_store(tmp_path / 'new'), tmp_path / 'mapped')


def test_the_digest_tells_adapters_apart(adapter):
  bias = adapter.parameters['bias'] + 1
  other = dataclasses.replace(
    adapter, parameters=adapter.parameters | {'bias': bias}
  )
  assert other.digest != adapter.digest


def test_mapped_vectors_do_not_depend_on_the_length_of_the_vectors(adapter):
  np.testing.assert_allclose(
    adapter.apply(7 * _NEW), adapter.apply(_NEW), rtol=1e-5
  )


def test_vectors_of_another_width_are_refused(adapter):
  with pytest.raises(InputError, match=r'width 4; wanted: .* of width 5'):
    adapter.apply(_NEW[:, :4])


def test_another_adapter_is_never_written_over(tmp_path, adapter):
  save_adapter(adapter, tmp_path / 'kept')
  options = adapter.card.options | {'penalty': 0.5}
  other = dataclasses.replace(
    adapter, card=dataclasses.replace(adapter.card, options=options)
  )

  save_adapter(adapter, tmp_path / 'kept')
  with pytest.raises(InputError, match=r"options: .*'penalty': None.* there"):
    save_adapter(other, tmp_path / 'kept')
  assert load_adapter(tmp_path / 'kept').digest == adapter.digest


def test_an_adapter_from_before_the_compute_dtype_was_said_is_of_float32(
  tmp_path, adapter
):
  save_adapter(adapter, tmp_path / 'kept')
  path = tmp_path / 'kept/card.json'
  card = json.loads(path.read_text())
  for side in ('new', 'old'):
    assert card[side].pop('compute_dtype') == 'float32'
  path.write_text(json.dumps(card))
  assert load_adapter(tmp_path / 'kept').card == adapter.card
  save_adapter(adapter, tmp_path / 'kept')  # is there already


def test_a_folder_of_something_else_is_left_alone(tmp_path, adapter):
  (tmp_path / 'kept').mkdir()
  (tmp_path / 'kept/thesis.tex').write_text('mine')
  with pytest.raises(InputError, match='no adapter'):
    save_adapter(adapter, tmp_path / 'kept')
  assert [path.name for path in (tmp_path / 'kept').iterdir()] == ['thesis.tex']


def test_what_a_kill_left_of_an_adapter_is_written_over(tmp_path, adapter):
  save_adapter(adapter, tmp_path / 'kept')
  (tmp_path / 'kept/card.json').unlink()
  save_adapter(adapter, tmp_path / 'kept')
  assert load_adapter(tmp_path / 'kept').digest == adapter.digest


def test_a_folder_without_an_adapter_is_refused(tmp_path):
  with pytest.raises(InputError, match='nowhere: no adapter here'):
    load_adapter(tmp_path / 'nowhere')


def test_weights_that_were_changed_are_refused(tmp_path, adapter):
  save_adapter(adapter, tmp_path / 'kept')
  path = tmp_path / 'kept/weights.safetensors'
  changed = bytearray(path.read_bytes())
  changed[-1] ^= 1
  path.write_bytes(changed)
  with pytest.raises(InputError, match='One of the two was changed'):
    load_adapter(tmp_path / 'kept')


def test_weights_that_were_cut_off_are_refused(tmp_path, adapter):
  save_adapter(adapter, tmp_path / 'kept')
  path = tmp_path / 'kept/weights.safetensors'
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(InputError, match=r'weights\.safetensors: damaged'):
    load_adapter(tmp_path / 'kept')


@pytest.mark.parametrize(
  'change', [{'kind': 'cubic'}, {'colour': 'red'}, None, []]
)
def test_a_card_of_something_else_is_refused(tmp_path, adapter, change):
  save_adapter(adapter, tmp_path / 'kept')
  path = tmp_path / 'kept/card.json'
  card = json.loads(path.read_text())
  path.write_text(json.dumps(change if not change else card | change))
  with pytest.raises(InputError, match='kept'):
    load_adapter(tmp_path / 'kept')
