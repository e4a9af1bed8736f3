from concurrent import futures
import dataclasses
from functools import partial
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax import parallel
from advbct_jax.data.pipeline import make_loader
from advbct_jax.embeddings.extract import FrozenEncoder, extract
from advbct_jax.embeddings.store import (
  EmbeddingStore,
  create_store,
  open_store,
)
from advbct_jax.errors import InputError
from advbct_jax.models.encoder import Encoder
from advbct_jax.models.resnet import BasicBlock, BottleneckBlock, ResNet
from advbct_jax.models.vit import VisionTransformer
from tests.embeddings.tiny_encoder import (
  SIZE,
  embed_directly,
  image_set,
  tiny_encoder,
)
from tests.products import products


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


@pytest.mark.parametrize('unsaid', [False, True])
@pytest.mark.parametrize(
  ('there', 'here'), [('float32', 'bfloat16'), ('bfloat16', 'float32')]
)
def test_the_same_weights_computed_in_another_dtype_are_another_encoder(
  tmp_path, there, here, unsaid
):
  images = image_set(3)
  store = extract(tiny_encoder(dtype=there), images, tmp_path / 'store')
  if unsaid and there == 'float32':  # as cards of earlier stores are
    card = json.loads((store.path / 'card.json').read_text())
    del card['compute_dtype'], card['sha256']
    (store.path / 'card.json').write_text(json.dumps(card))
  with pytest.raises(InputError) as refusal:
    extract(tiny_encoder(dtype=here), images, store.path)
  assert f'compute_dtype: {here} here, {there} there' in str(refusal.value)
  again = extract(tiny_encoder(dtype=there), images, store.path)
  assert again.card.complete


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
    'compute_dtype': 'float32',
    'chunk_rows': 7,
    'complete': False,
    'file_sha256': None,
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


def _tiny_vit(dtype):
  return VisionTransformer(
    depth=1, heads=2, channels=16, pooling='mean', dtype=dtype
  )


_BACKBONES = {
  'small': partial(ResNet, (1,), BasicBlock, 1 / 16, 'small'),
  'imagenet': partial(ResNet, (1, 1), BottleneckBlock, 1 / 16, 'imagenet'),
  'gem': partial(ResNet, (1,), BasicBlock, 1 / 16, 'small', 'gem'),
  'vit': _tiny_vit,
}


def _products_of_embedding(backbone, head, dtype):
  module = Encoder(_BACKBONES[backbone](dtype=dtype), dimension=8, head=head)
  image = np.zeros((1, SIZE, SIZE, 3), np.uint8)
  shapes = jax.eval_shape(
    partial(module.init, train=False), jax.random.key(0), jnp.float32(image)
  )
  variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  encoder = FrozenEncoder('tiny', module, variables, SIZE)
  return products(encoder.embed, image[None])


@pytest.mark.parametrize('on_patches', [True, False])
@pytest.mark.parametrize('dtype', ['float32', None])
@pytest.mark.parametrize('head', ['batch_norm', 'linear'])
@pytest.mark.parametrize('backbone', _BACKBONES)
def test_every_product_of_a_float32_embedding_is_in_full_float32(
  backbone, head, dtype, on_patches, monkeypatch
):
  if not on_patches:  # as on GPU and TPU
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  found = _products_of_embedding(backbone, head, dtype)
  assert len(found) > 2
  if backbone != 'vit' and not on_patches:
    assert 'conv_general_dilated' in {name for name, _, _ in found}
  assert {(kind, highest) for _, kind, highest in found} == {('float32', True)}


@pytest.mark.parametrize('backbone', _BACKBONES)
def test_a_bfloat16_embedding_is_projected_in_full_float32(backbone):
  found = _products_of_embedding(backbone, 'batch_norm', 'bfloat16')
  *inside, projection = found
  assert projection == ('dot_general', 'float32', True)
  assert {kind for _, kind, _ in inside} == {'bfloat16'}


class _Queued:
  """The embeddings of a batch that a device has not handed over yet."""

  def __init__(self, embeddings, number, events):
    self.embeddings, self.number, self.events = embeddings, number, events

  def __array__(self, dtype=None, copy=None):
    self.events.append(('fetched', self.number))
    return np.asarray(self.embeddings)


def _watch(encoder):
  """The encoder, and a list of what it is asked and when."""
  events, embed = [], encoder.embed

  def queue(images):
    number = sum(event == 'queued' for event, _ in events)
    events.append(('queued', number))
    return _Queued(embed(images), number, events)

  watched = dataclasses.replace(encoder)
  watched.__dict__['embed'] = queue  # in place of the cached one
  return watched, events


@pytest.mark.parametrize('chunk_rows', [100, 6, 2])
def test_a_device_has_work_queued_while_embeddings_are_fetched_and_written(
  encoder, tmp_path, monkeypatch, chunk_rows
):
  watched, events = _watch(encoder)
  write_chunk = EmbeddingStore.write_chunk

  def write(store, chunk, embeddings):
    events.append(('written', chunk))
    write_chunk(store, chunk, embeddings)

  monkeypatch.setattr(EmbeddingStore, 'write_chunk', write)
  store = extract(
    watched,
    image_set(18),
    tmp_path / 'store',
    batch_size=2,
    chunk_rows=chunk_rows,
  )
  np.testing.assert_allclose(
    store.read(), embed_directly(encoder, 18), atol=1e-5
  )
  queued = fetched = 0
  for event, _ in events:
    queued += event == 'queued'
    # Any number would hold as many batches of images in memory.
    assert queued - fetched <= 3
    if queued < 9:
      assert event == 'queued' or queued > fetched + 1
    fetched += event == 'fetched'
  assert [number for event, number in events if event == 'fetched'] == list(
    range(9)
  )


def test_chunks_before_an_unreadable_image_are_kept(encoder, tmp_path):
  images = image_set(12)
  whole = images.images[7]
  list.__setitem__(images.images, 7, whole[:40])
  options = {'batch_size': 2, 'chunk_rows': 6}
  with pytest.raises(InputError, match=r'memory/7\.png: cannot decode'):
    extract(encoder, images, tmp_path / 'store', **options)

  list.__setitem__(images.images, 7, whole)
  images.images.reads.clear()
  store = extract(encoder, images, tmp_path / 'store', **options)
  assert sorted(images.images.reads) == list(range(6, 12))
  np.testing.assert_allclose(
    store.read(), embed_directly(encoder, 12), atol=1e-5
  )


def test_a_loader_of_another_image_size_is_not_used(encoder, tmp_path):
  images = image_set(3)
  load = make_loader(images, SIZE // 2, memory_mib=1)
  store = extract(encoder, images, tmp_path / 'store', load=load)
  np.testing.assert_allclose(
    store.read(), embed_directly(encoder, 3), atol=1e-5
  )


def test_images_are_squashed_as_the_encoder_wants_and_its_card_says(tmp_path):
  images = image_set(3)
  bilinear = dataclasses.replace(tiny_encoder(), image_size=SIZE // 2)
  bicubic = dataclasses.replace(bilinear, resampling='bicubic')
  load = make_loader(images, SIZE // 2, memory_mib=1)
  stores = [
    extract(encoder, images, tmp_path / encoder.resampling, load=load)
    for encoder in (bilinear, bicubic)
  ]
  for store, filter_ in zip(stores, ('bilinear', 'bicubic'), strict=True):
    assert f'8x8 (PIL {filter_}), ImageNet' in store.card.preprocessing
  squashed = np.stack(
    [images.load(row, SIZE // 2, 'bicubic') for row in (0, 1, 2)]
  )
  wanted = bicubic.embed(parallel.shard(squashed))
  np.testing.assert_allclose(
    stores[1].read(), np.asarray(wanted).reshape(3, -1), atol=1e-5
  )
  assert np.abs(stores[0].read() - stores[1].read()).max() > 1e-3
  with pytest.raises(InputError, match='preprocessing'):
    extract(bicubic, images, tmp_path / 'bilinear')


def test_an_extraction_and_another_writer_exclude_each_other(tmp_path):
  encoder, images = tiny_encoder(), image_set(3)
  path = tmp_path / 'store'
  store = create_store(path, encoder.card(images, 8), images.ids)
  with (
    futures.ThreadPoolExecutor() as pool,
    store.filling(),
    pytest.raises(InputError, match='fills the store here since'),
  ):
    pool.submit(extract, encoder, images, path, chunk_rows=8).result()
