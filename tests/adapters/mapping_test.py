"""Stores of mapped vectors, and evaluation with them."""

import itertools

import numpy as np
import pytest

from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.adapters.mapping import adapt_store, adapted
from advbct_jax.embeddings.store import EmbeddingStore, open_store
from advbct_jax.errors import InputError
from advbct_jax.retrieval.evaluation import evaluate
from advbct_jax.retrieval.report import render
from tests.adapters.small_stores import ids_of, random_rotation, write
from tests.retrieval.small_sets import encoder, gldv2_set, image_set

_RANDOM = np.random.default_rng(0)
_NEW = _RANDOM.normal(size=(150, 5)).astype(np.float32)
_OLD = _RANDOM.normal(size=(150, 3)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
  return write(tmp_path / 'new', _NEW, chunk_rows=64)


def _fit(tmp_path, store, kind='ridge'):
  return fit_adapter(kind, store, write(tmp_path / 'old', _OLD))


def test_a_store_is_mapped_with_its_ids_and_labels(tmp_path):
  labels = [f'class {number % 3}' for number in range(150)]
  store = write(tmp_path / 'new', _NEW, labels=labels)
  adapter = _fit(tmp_path, store)
  adapt_store(adapter, store, tmp_path / 'mapped')
  mapped = open_store(tmp_path / 'mapped')

  np.testing.assert_allclose(mapped.read(), adapter.apply(_NEW), atol=1e-6)
  assert mapped.ids() == ids_of(150)
  assert mapped.labels() == labels
  assert mapped.card.encoder == 'net+ridge'
  assert mapped.card.dimension == 3
  assert mapped.card.weights not in (store.card.weights, adapter.digest)


def test_a_rotated_store_says_which_part_compares_with_old_vectors(
  tmp_path, store
):
  adapter = _fit(tmp_path, store, 'procrustes')
  card = adapt_store(adapter, store, tmp_path / 'mapped').card

  assert (card.dimension, card.compatible_dimension) == (5, 3)


def test_a_store_of_another_encoder_is_refused(tmp_path, store):
  adapter = _fit(tmp_path, store)
  other = write(tmp_path / 'other', _NEW)
  with pytest.raises(InputError, match='weights: other there, wanted new'):
    adapt_store(adapter, other, tmp_path / 'mapped')
  assert not (tmp_path / 'mapped').exists()


def test_the_store_of_the_encoder_in_another_precision_is_refused(
  tmp_path, store
):
  adapter = _fit(tmp_path, store)
  other = write(tmp_path / 'bf16/new', _NEW, compute_dtype='bfloat16')
  with pytest.raises(
    InputError, match='compute_dtype: bfloat16 there, wanted float32'
  ):
    adapt_store(adapter, other, tmp_path / 'mapped')


def test_another_store_is_never_written_over(tmp_path, store):
  adapter = _fit(tmp_path, store)
  with pytest.raises(InputError, match='does not belong here'):
    adapt_store(adapter, store, store.path)
  np.testing.assert_array_equal(store.read(), _NEW)


def test_mapping_goes_on_where_it_was_killed(tmp_path, store, monkeypatch):
  adapter = _fit(tmp_path, store)
  read_chunk, reads = EmbeddingStore.read_chunk, itertools.count()

  def read_once(self, chunk):
    if next(reads):
      raise KeyboardInterrupt
    return read_chunk(self, chunk)

  monkeypatch.setattr(EmbeddingStore, 'read_chunk', read_once)
  with pytest.raises(KeyboardInterrupt):
    adapt_store(adapter, store, tmp_path / 'mapped')
  read = []
  monkeypatch.setattr(
    EmbeddingStore,
    'read_chunk',
    lambda self, chunk: read.append(chunk) or read_chunk(self, chunk),
  )
  mapped = adapt_store(adapter, store, tmp_path / 'mapped')

  assert read == [1, 2]
  np.testing.assert_allclose(mapped.read(), adapter.apply(_NEW), atol=1e-6)


def test_a_source_is_mapped_image_set_by_image_set(tmp_path):
  vectors = {'train': _NEW, 'queries': _NEW[:4]}
  source = encoder(tmp_path / 'new', vectors)
  new = source(image_set('train', 150))
  old = write(tmp_path / 'old', _OLD, image_set('train', 150).ids)
  adapter = fit_adapter('ridge', new, old)

  mapped = adapted(source, adapter, tmp_path / 'mapped')
  store = mapped(image_set('queries', 4))

  assert store.path == tmp_path / 'mapped/queries'
  np.testing.assert_allclose(store.read(), adapter.apply(_NEW[:4]), atol=1e-6)


_COUNT = 12
_SET = gldv2_set(
  relevant=[[number] for number in range(_COUNT)],
  usage=['Private'] * _COUNT,
  gallery=_COUNT,
)


def _evaluate(tmp_path, kind, old_width=6, direction='backward'):
  """A new space that is the old one turned: only a map brings them together."""
  random = np.random.default_rng(3)
  queries = random.normal(size=(_COUNT, 6))
  train = random.normal(size=(100, 6))
  turn = random_rotation(6, seed=4)
  sides = {
    'old': lambda vectors: vectors[:, :old_width],
    'new': lambda vectors: vectors @ turn,
  }
  sources = {
    role: encoder(
      tmp_path / role,
      {
        'train': say(train),
        'landmarks-queries': say(queries),
        'landmarks-gallery': say(queries + 0.1),
      },
      weights=role,
    )
    for role, say in sides.items()
  }
  images = image_set('train', 100)
  adapter = fit_adapter(
    kind, sources['new'](images), sources['old'](images), direction=direction
  )
  forward = direction == 'forward'
  side, role = ('old', 'recycled') if forward else ('new', 'adapted')
  plain = (
    evaluate([_SET], sources['old'], sources['new'], tmp_path / 'plain')
    if old_width == 6
    else None
  )
  return plain, evaluate(
    [_SET],
    sources['old'],
    sources['new'],
    tmp_path / 'mapped-results',
    **{role: adapted(sources[side], adapter, tmp_path / 'mapped')},
  )


@pytest.mark.parametrize('kind', ['procrustes', 'ridge'])
def test_cross_and_the_refreshed_gallery_are_mapped_and_self_is_not(
  tmp_path, kind
):
  plain, mapped = (
    results['datasets']['landmarks'] for results in _evaluate(tmp_path, kind)
  )

  assert plain['cross']['private/map@100'] < 70
  assert mapped['cross']['private/map@100'] == 100
  assert mapped['refresh'] == dict.fromkeys(['0', '25', '50', '75', '100'], 100)
  assert mapped['old'] == plain['old']
  assert mapped['self'] == plain['self']


@pytest.mark.parametrize('kind', ['procrustes', 'ridge'])
@pytest.mark.parametrize('old_width', [5, 6])
def test_forward_the_old_gallery_is_mapped_and_new_queries_are_not(
  tmp_path, kind, old_width
):
  _, results = _evaluate(tmp_path, kind, old_width, direction='forward')
  figures = results['datasets']['landmarks']

  assert list(results['encoders']) == ['old', 'new', 'recycled']
  assert results['encoders']['recycled']['dimension'] == 6
  assert figures['cross']['private/map@100'] > 90
  assert figures['refresh']['100'] == figures['self']['private/map@100']
  if old_width == 6:
    assert set(figures['refresh'].values()) == {100}
  report = render(results)
  assert f'mapped into the new space by an adapter (resnet18+{kind})' in report
  assert 'the new embeddings, queries and' not in report


def test_an_adapter_lets_encoders_of_different_widths_be_judged(tmp_path):
  _, results = _evaluate(tmp_path, 'procrustes', old_width=4)

  assert results['encoders']['adapted']['compatible_dimension'] == 4
  assert results['datasets']['landmarks']['cross']['private/map@100'] > 70


def test_results_and_report_name_the_adapter(tmp_path):
  _, results = _evaluate(tmp_path, 'ridge')

  assert list(results['encoders']) == ['old', 'new', 'adapted']
  assert results['encoders']['adapted']['encoder'] == 'resnet18+ridge'
  report = render(results)
  assert 'are mapped by an adapter (resnet18+ridge)' in report
  assert '*self* takes them as they are' in report


def test_an_adapter_without_an_old_encoder_is_refused(tmp_path):
  source = encoder(tmp_path, {})
  with pytest.raises(InputError, match='no old encoder'):
    evaluate([_SET], None, source, tmp_path, adapted=source)
  with pytest.raises(InputError, match='no old encoder'):
    evaluate([_SET], None, source, tmp_path, recycled=source)
