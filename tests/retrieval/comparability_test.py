import dataclasses

import pytest

from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.retrieval.comparability import (
  EncoderStores,
  require_comparable,
  require_one_encoder,
)
from tests.retrieval.small_sets import card_of, image_set

_QUERIES = image_set('queries', 2)
_GALLERY = image_set('gallery', 3)


def _opens(folder, *cards):
  """A `Source` that opens stores of given cards, one after the other."""
  stores = iter([EmbeddingStore(folder / card.images, card) for card in cards])
  return lambda images: next(stores)


def test_stores_of_one_encoder_pass(tmp_path):
  cards = card_of(_QUERIES.ids, images='queries'), card_of(_GALLERY.ids)
  stores = EncoderStores('old', _opens(tmp_path, *cards))

  assert stores.store(_QUERIES).card == cards[0]
  assert stores.store(_GALLERY).card == cards[1]
  assert stores.identity == {
    'encoder': 'resnet18',
    'weights': 'ab12',
    'dimension': 2,
    'compatible_dimension': 0,
    'preprocessing': 'squash to 8 pixels',
    'compute_dtype': 'float32',
  }


@pytest.mark.parametrize(
  ('changes', 'difference'),
  [
    ({'encoder': 'resnet50'}, 'encoder: resnet50 there, wanted resnet18'),
    ({'weights': 'cd34'}, 'weights: cd34 there, wanted ab12'),
    ({'dimension': 3}, 'dimension: 3 there, wanted 2'),
    ({'preprocessing': 'crop'}, 'preprocessing: crop there, wanted squash'),
    (
      {'compute_dtype': 'bfloat16'},
      'compute_dtype: bfloat16 there, wanted float32',
    ),
    ({'count': 4}, 'count: 4 there, wanted 3'),
    ({'complete': False}, 'complete: False there, wanted True'),
  ],
)
def test_queries_and_gallery_of_two_kinds_are_refused(
  tmp_path, changes, difference
):
  stores = EncoderStores(
    'old',
    _opens(tmp_path, card_of(_QUERIES.ids), card_of(_GALLERY.ids, **changes)),
  )
  stores.store(_QUERIES)
  with pytest.raises(InputError, match=difference) as refusal:
    stores.store(_GALLERY)
  assert str(tmp_path / 'gallery') in str(refusal.value)


@pytest.mark.parametrize('upright', [True, False])
def test_a_store_of_images_turned_otherwise_is_refused(tmp_path, upright):
  card = card_of(_QUERIES.ids, cropped=False, upright=not upright)
  images = dataclasses.replace(_QUERIES, upright=upright)
  with pytest.raises(
    InputError, match=f'upright: {not upright} there, wanted {upright}'
  ):
    EncoderStores('old', _opens(tmp_path, card)).store(images)


def test_whoever_says_nothing_of_the_images_is_believed(tmp_path):
  card = card_of(_QUERIES.ids, cropped=None)
  images = dataclasses.replace(_QUERIES, upright=True)
  EncoderStores('old', _opens(tmp_path, card)).store(images)


def test_a_store_in_another_order_is_refused(tmp_path):
  turned = card_of(_GALLERY.ids[::-1])
  stores = EncoderStores('new', _opens(tmp_path, turned))
  with pytest.raises(InputError, match=r'ids_digest: .* there, wanted'):
    stores.store(_GALLERY)


def test_encoders_of_different_widths_are_not_searched_with_each_other(
  tmp_path,
):
  narrow = card_of(_GALLERY.ids)
  wide = dataclasses.replace(narrow, dimension=3)
  with pytest.raises(InputError, match=r'width 3, but .* have 2'):
    require_comparable(
      EmbeddingStore(tmp_path / 'new', wide),
      EmbeddingStore(tmp_path / 'old', narrow),
    )


def test_encoders_of_one_width_are_searched_with_each_other(tmp_path):
  card = card_of(_GALLERY.ids)
  other = dataclasses.replace(card, encoder='resnet50', preprocessing='crop')
  require_comparable(
    EmbeddingStore(tmp_path / 'new', other),
    EmbeddingStore(tmp_path / 'old', card),
  )


@pytest.mark.parametrize('there', [None, 'float32'])
def test_stores_of_one_encoder_in_two_precisions_are_not_one_side(
  tmp_path, there
):
  first, second = (
    EmbeddingStore(tmp_path, card_of(_GALLERY.ids, compute_dtype=dtype))
    for dtype in (there, 'bfloat16')
  )
  with pytest.raises(InputError, match='bfloat16 there, float32 in'):
    require_one_encoder([first, second])
