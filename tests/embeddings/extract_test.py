import dataclasses

import jax
import numpy as np
import pytest

from advbct_jax.data.pipeline import make_loader
from advbct_jax.embeddings.extract import extract
from advbct_jax.embeddings.store import EmbeddingStore, open_store
from advbct_jax.errors import InputError
from tests.embeddings.tiny_encoder import (
  SIZE,
  embed_directly,
  image_set,
  tiny_encoder,
)


@pytest.fixture(scope='module')
def encoder():
  return tiny_encoder()


@pytest.mark.parametrize(
  ('batch_size', 'chunk_rows'),
  [
    (4, 100),  # the last batch has 3 of 4 images
    (4, 5),  # every chunk ends in a batch of 1
    (64, 100),  # a batch larger than the set
  ],
)
def test_a_store_has_what_the_encoder_says_about_each_image(
  encoder, tmp_path, batch_size, chunk_rows
):
  images = image_set(11)
  store = extract(
    encoder,
    images,
    tmp_path / 'store',
    batch_size=batch_size,
    chunk_rows=chunk_rows,
  )
  assert store.ids() == images.ids
  np.testing.assert_allclose(
    open_store(store.path).read(), embed_directly(encoder, 11), atol=1e-5
  )


def test_a_killed_extraction_goes_on_at_the_missing_chunk(
  encoder, tmp_path, monkeypatch
):
  def killed(store, chunk, embeddings):
    if chunk == 2:
      raise KeyboardInterrupt
    write_chunk(store, chunk, embeddings)

  images, options = image_set(11), {'batch_size': 4, 'chunk_rows': 4}
  write_chunk = EmbeddingStore.write_chunk
  with monkeypatch.context() as patch:
    patch.setattr(EmbeddingStore, 'write_chunk', killed)
    with pytest.raises(KeyboardInterrupt):
      extract(encoder, images, tmp_path / 'store', **options)
  with pytest.raises(InputError, match='1 of 3 chunks are missing'):
    open_store(tmp_path / 'store')

  images.images.reads.clear()
  store = extract(encoder, images, tmp_path / 'store', **options)
  assert sorted(images.images.reads) == [8, 9, 10]
  np.testing.assert_allclose(
    store.read(), embed_directly(encoder, 11), atol=1e-5
  )

  images.images.reads.clear()
  again = extract(encoder, images, tmp_path / 'store', **options)
  assert (images.images.reads, again.card.complete) == ([], True)


def test_a_loader_that_is_there_already_is_used(encoder, tmp_path):
  images = image_set(3)
  load = make_loader(images, SIZE, memory_mib=1)
  images.images.reads.clear()
  store = extract(encoder, images, tmp_path / 'store', load=load)
  assert images.images.reads == []
  np.testing.assert_allclose(
    store.read(), embed_directly(encoder, 3), atol=1e-5
  )


def test_the_store_of_other_weights_is_refused_untouched(encoder, tmp_path):
  store = extract(encoder, image_set(3), tmp_path / 'store')
  other = tiny_encoder(seed=1)
  with pytest.raises(InputError) as refusal:
    extract(other, image_set(3), store.path)
  assert f'weights: {other.digest} here, {encoder.digest} there' in str(
    refusal.value
  )
  assert open_store(store.path).card == store.card


def test_the_store_of_other_images_is_refused(encoder, tmp_path):
  store = extract(encoder, image_set(3), tmp_path / 'store')
  with pytest.raises(InputError, match='count: 4 here, 3 there'):
    extract(encoder, image_set(4), store.path)


def test_the_card_says_who_embedded_what_and_how(encoder):
  images = image_set(3, boxes=np.zeros((3, 4), np.float32))
  card = encoder.card(images, chunk_rows=7)
  assert dataclasses.asdict(card) == {
    'encoder': 'tiny',
    'weights': encoder.digest,
    'dimension': 8,
    'preprocessing': (
      'RGB, squashed to 16x16 (PIL bilinear), ImageNet mean and deviation'
    ),
    'images': 'tiny',
    'ids_digest': images.ids_digest(),
    'count': 3,
    'cropped': True,
    'upright': False,
    'compatible_dimension': 0,
    'labels_digest': None,
    'dtype': 'float32',
    'chunk_rows': 7,
    'complete': False,
  }
  assert not encoder.card(image_set(3), chunk_rows=7).cropped


def test_the_card_says_whether_images_were_turned_upright(encoder):
  as_stored = image_set(3)
  upright = dataclasses.replace(as_stored, upright=True)
  cards = [encoder.card(images, 7) for images in (as_stored, upright)]
  assert [card.upright for card in cards] == [False, True]
  # One encoder embeds both kinds, and is searched with either.
  assert cards[0].identity() == cards[1].identity()


def test_the_digest_changes_with_any_weight_or_statistic(encoder):
  leaves, structure = jax.tree.flatten(encoder.variables)
  digests = {encoder.digest}
  for changed in range(len(leaves)):
    nudged = [
      leaf + 1e-4 * (position == changed)
      for position, leaf in enumerate(leaves)
    ]
    variables = jax.tree.unflatten(structure, nudged)
    digests.add(dataclasses.replace(encoder, variables=variables).digest)
  assert len(digests) == len(leaves) + 1


def test_the_digest_tells_which_layer_has_which_weights(encoder):
  params = dict(encoder.variables['params'])
  params['bm'] = params.pop('bn')  # at the same place of the order
  renamed = dataclasses.replace(
    encoder, variables={**encoder.variables, 'params': params}
  )
  assert renamed.digest != encoder.digest


def test_the_digest_is_that_of_equal_weights_elsewhere(encoder):
  in_numpy = jax.tree.map(np.asarray, encoder.variables)
  assert dataclasses.replace(encoder, variables=in_numpy).digest == (
    encoder.digest
  )


def test_several_processes_are_refused_before_anything_is_written(
  encoder, tmp_path, monkeypatch
):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(InputError, match='2 processes run as one'):
    extract(encoder, image_set(3), tmp_path / 'store')
  assert not (tmp_path / 'store').exists()
