import dataclasses

import numpy as np
import pytest

from advbct_jax.data.images import ImageSet, digest_ids
from advbct_jax.embeddings.sources import (
  from_encoder,
  from_stores,
  store_name,
)
from advbct_jax.embeddings.store import Card, create_store, write_store
from advbct_jax.errors import InputError
from tests.embeddings.tiny_encoder import (
  embed_directly,
  image_set,
  tiny_encoder,
)

IDS = ['a', 'b', 'c', 'd']
EMBEDDINGS = np.arange(8, dtype=np.float32).reshape(4, 2)


def images(ids, name='gallery', cropped=False):
  boxes = np.zeros((len(ids), 4), np.float32) if cropped else None
  return ImageSet(name, ids, images=[b''] * len(ids), boxes=boxes)


def store(path, ids=IDS, embeddings=EMBEDDINGS, labels=None, **changes):
  card = Card(
    encoder='elsewhere',
    weights='ab12',
    dimension=2,
    preprocessing='unknown',
    images='gallery',
    ids_digest=digest_ids(ids),
    count=len(ids),
  )
  return write_store(
    path, dataclasses.replace(card, **changes), ids, embeddings, labels
  )


def test_an_encoder_embeds_each_set_into_a_store_of_its_name(tmp_path):
  encoder = tiny_encoder()
  source = from_encoder(encoder, tmp_path, batch_size=4, workers=0)
  whole = source(image_set(3))
  assert whole.path == tmp_path / 'tiny'
  np.testing.assert_allclose(
    whole.read(), embed_directly(encoder, 3), atol=1e-5
  )
  boxes = np.tile(np.array([0, 0, 8, 8], np.float32), (3, 1))
  cropped = source(image_set(3, boxes=boxes))
  assert cropped.path == tmp_path / 'tiny-cropped'
  assert not np.allclose(cropped.read(), whole.read(), atol=1e-2)


def test_a_folder_of_stores_is_searched_by_name(tmp_path):
  store(tmp_path / 'queries', ['q'], EMBEDDINGS[:1])
  store(tmp_path / 'gallery')
  source = from_stores(tmp_path, tmp_path / 'selections')
  assert source(images(['q'], 'queries')).ids() == ['q']
  assert source(images(IDS)).path == tmp_path / 'gallery'


def test_cropped_images_have_a_store_of_their_own_if_there_is_one(tmp_path):
  store(tmp_path / 'gallery')
  source = from_stores(tmp_path, tmp_path / 'selections')
  cropped = images(IDS, cropped=True)
  assert store_name(cropped) == 'gallery-cropped'
  assert source(cropped).path == tmp_path / 'gallery'
  store(tmp_path / 'gallery-cropped', cropped=True)
  assert source(cropped).path == tmp_path / 'gallery-cropped'
  assert source(images(IDS)).path == tmp_path / 'gallery'


def test_a_name_that_no_store_of_the_folder_has_is_refused(tmp_path):
  store(tmp_path / 'gallery')
  source = from_stores(tmp_path, tmp_path / 'selections')
  with pytest.raises(InputError) as refusal:
    source(images(IDS, 'rparis6k-gallery'))
  assert str(refusal.value).startswith(
    f'{tmp_path / "rparis6k-gallery"}: no embedding store here'
  )


def test_rows_of_a_single_store_are_found_by_their_ids(tmp_path):
  everything = store(tmp_path / 'all')
  source = from_stores(everything.path, tmp_path / 'selections')
  taken = source(images(['d', 'a'], 'queries'))
  assert taken.path == tmp_path / 'selections' / 'queries'
  assert taken.ids() == ['d', 'a']
  np.testing.assert_array_equal(taken.read(), [[6, 7], [0, 1]])
  assert taken.card == dataclasses.replace(
    everything.card,
    images='queries',
    ids_digest=digest_ids(['d', 'a']),
    count=2,
  )
  # The second time the selection is there already.
  np.testing.assert_array_equal(
    source(images(['d', 'a'], 'queries')).read(), [[6, 7], [0, 1]]
  )


def test_a_single_store_of_just_these_images_is_taken_as_it_is(tmp_path):
  everything = store(tmp_path / 'all')
  source = from_stores(everything.path, tmp_path / 'selections')
  assert source(images(IDS)).path == everything.path
  assert not (tmp_path / 'selections').exists()


def test_a_selection_from_other_vectors_makes_way_for_these(tmp_path):
  for weights, scale in {'ab12': 1, 'cd34': 2}.items():
    path = tmp_path / weights
    store(path, embeddings=scale * EMBEDDINGS, weights=weights)
  select = images(['d', 'a'], 'queries')
  from_stores(tmp_path / 'ab12', tmp_path / 'selections')(select)
  selected = from_stores(tmp_path / 'cd34', tmp_path / 'selections')(select)
  assert selected.card.weights == 'cd34'
  np.testing.assert_array_equal(selected.read(), 2 * EMBEDDINGS[[3, 0]])


def test_a_selection_that_was_cut_short_is_made_anew(tmp_path):
  source = from_stores(store(tmp_path / 'all').path, tmp_path / 'selections')
  select = images(['d', 'a'], 'queries')
  card = tmp_path / 'selections' / 'queries' / 'card.json'
  source(select)
  card.write_text(card.read_text().replace('true', 'false'))

  np.testing.assert_array_equal(source(select).read(), EMBEDDINGS[[3, 0]])


def test_images_that_a_single_store_lacks_are_named(tmp_path):
  source = from_stores(store(tmp_path / 'all').path, tmp_path / 'selections')
  with pytest.raises(InputError) as refusal:
    source(images(['a', 'x', 'b', 'y'], 'queries'))
  assert str(refusal.value).startswith(
    f'{tmp_path / "all"}: it has no embedding of 2 of the 4 images of queries, '
    'such as x.'
  )


@pytest.mark.parametrize('single', [True, False])
def test_an_incomplete_store_is_refused(tmp_path, single):
  card = store(tmp_path / 'there').card
  create_store(
    tmp_path / 'gallery', dataclasses.replace(card, complete=False), IDS
  )
  path = tmp_path / 'gallery' if single else tmp_path
  source = from_stores(path, tmp_path / 'selections')
  with pytest.raises(InputError, match='the store is incomplete'):
    source(images(IDS))


@pytest.mark.parametrize('name', ['nowhere', 'empty'])
def test_a_path_without_stores_is_refused_at_once(tmp_path, name):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError) as refusal:
    from_stores(tmp_path / name, tmp_path / 'selections')
  assert str(refusal.value).startswith(
    f'{tmp_path / name}: neither the workdir'
  )


def test_a_selection_keeps_the_labels_of_its_images(tmp_path):
  labels = [f'class {image_id}' for image_id in IDS]
  digest = digest_ids(labels)
  everything = store(tmp_path / 'all', labels=labels, labels_digest=digest)
  source = from_stores(everything.path, tmp_path / 'selections')
  selected = source(images(['d', 'a'], 'queries'))
  assert selected.labels() == ['class d', 'class a']
