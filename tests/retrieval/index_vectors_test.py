import faiss
import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.retrieval.index_vectors import read_vectors

VECTORS = np.random.default_rng(0).random((600, 8), np.float32)
KEYS = np.arange(600)[::-1] * 10**9


def write(path, factory, keys=None):
  index = faiss.index_factory(8, factory)
  index.train(VECTORS)
  if keys is None:
    index.add(VECTORS)
  else:
    index.add_with_ids(VECTORS, keys)
  faiss.write_index(index, str(path))
  return path


@pytest.mark.parametrize(
  'factory',
  ['Flat', 'HNSW8,Flat', 'IVF4,Flat', 'PQ2x4,RFlat', 'IVF4_HNSW8,Flat'],
)
def test_an_index_of_whole_vectors_gives_them_back_in_their_order(
  tmp_path, factory
):
  vectors = read_vectors(write(tmp_path / 'i.faiss', factory))
  assert (vectors.count, vectors.dimension) == (600, 8)
  assert vectors.exact
  assert vectors.keys is None
  blocks = list(vectors.blocks(7, 250))
  assert [len(block) for block in blocks] == [250, 250, 93]
  np.testing.assert_array_equal(np.concatenate(blocks), VECTORS[7:])


@pytest.mark.parametrize(
  'factory', ['IDMap,Flat', 'IDMap2,Flat', 'IDMap2,IVF4,Flat', 'IDMap2,HNSW8']
)
def test_the_ids_of_an_id_map_are_kept(tmp_path, factory):
  vectors = read_vectors(write(tmp_path / 'i.faiss', factory, KEYS))
  np.testing.assert_array_equal(vectors.keys, KEYS)
  np.testing.assert_array_equal(
    np.concatenate(list(vectors.blocks(0, 250))), VECTORS
  )


def test_vectors_in_lists_are_in_the_order_of_their_ids(tmp_path):
  vectors = read_vectors(write(tmp_path / 'i.faiss', 'IVF4,Flat', KEYS))
  np.testing.assert_array_equal(vectors.keys, KEYS[::-1])
  np.testing.assert_array_equal(
    np.concatenate(list(vectors.blocks(0, 250))), VECTORS[::-1]
  )


@pytest.mark.parametrize(
  'factory', ['PQ2x4', 'SQ8', 'IVF4,PQ2x4', 'HNSW8_SQ8', 'L2norm,Flat']
)
def test_approximations_are_known_as_such(tmp_path, factory):
  vectors = read_vectors(write(tmp_path / 'i.faiss', factory))
  assert not vectors.exact
  assert next(vectors.blocks(0, 9)).shape == (9, 8)


def test_an_index_that_cannot_give_its_vectors_back_is_refused(tmp_path):
  path = write(tmp_path / 'i.faiss', 'IVF4,PQ4x4fs')
  with pytest.raises(InputError, match='not a FAISS index that gives'):
    read_vectors(path)


@pytest.mark.parametrize('less', [1, 4, 7, 8, 5000])
def test_an_index_without_its_last_bytes_is_refused(tmp_path, less):
  path = write(tmp_path / 'i.faiss', 'IDMap2,Flat', KEYS[::-1])
  path.write_bytes(path.read_bytes()[:-less])
  with pytest.raises(InputError, match=f'{path.name}: not a FAISS index'):
    read_vectors(path)
