import json

import faiss
import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.retrieval import index as indexing
from tests.retrieval.small_sets import card_of

_GALLERY = np.array([[2, 0], [0, 3], [1, 1], [-1, 0]], np.float32)
_IDS = ['a', 'b', 'c', 'd']


def _built(gallery=_GALLERY):
  chunks = np.array_split(gallery, 2)
  return indexing.build_index(gallery.shape[1], len(gallery), chunks)


def _written(folder, **changes):
  card = card_of(_IDS, **changes)
  indexing.write_index(folder, 'old', _built(), _IDS, card)
  return card


def test_search_ranks_by_cosine_whatever_the_lengths():
  scores, ranks = indexing.search(_built(), np.array([[0.1, 0.0]]), k=4)

  assert ranks.tolist() == [[0, 2, 1, 3]]
  np.testing.assert_allclose(scores, [[1, 0.70711, 0, -1]], atol=1e-5)


def test_ranks_are_positions_in_the_whole_gallery():
  gallery = np.eye(7, dtype=np.float32)
  chunks = [gallery[:3], gallery[3:6], gallery[6:]]
  index = indexing.build_index(7, 7, chunks)

  _, ranks = indexing.search(index, gallery, k=1)

  assert ranks[:, 0].tolist() == list(range(7))


def test_blocks_of_queries_give_what_one_search_gives(monkeypatch):
  rng = np.random.default_rng(0)
  index = _built(rng.normal(size=(30, 4)).astype(np.float32))
  queries = rng.normal(size=(7, 4)).astype(np.float32)
  whole = indexing.search(index, queries, k=30)

  monkeypatch.setattr(indexing, '_BLOCK_RESULTS', 60)
  blocks = indexing.search(index, queries, k=30)

  np.testing.assert_allclose(blocks[0], whole[0], rtol=1e-6)
  np.testing.assert_array_equal(blocks[1], whole[1])


def test_a_vector_of_zeros_compares_with_nothing_and_breaks_nothing():
  gallery = np.array([[0, 0], [1, 0]], np.float32)
  scores, ranks = indexing.search(_built(gallery), np.array([[1.0, 0]]), k=2)

  assert ranks.tolist() == [[1, 0]]
  assert scores.tolist() == [[1, 0]]


def test_vectors_that_are_not_finite_are_refused():
  with pytest.raises(InputError, match=r'query 1 .* is not finite'):
    indexing.search(_built(), np.array([[1.0, 0], [np.nan, 0]]), k=2)


@pytest.mark.parametrize(('width', 'k'), [(3, 1), (2, 5)])
def test_queries_that_do_not_fit_the_index_are_refused(width, k):
  with pytest.raises(InputError, match='4 vectors of width 2'):
    indexing.search(_built(), np.ones((1, width), np.float32), k)


def test_memory_for_the_gallery_is_taken_once(monkeypatch):
  flat = faiss.IndexFlatIP(2)
  monkeypatch.setattr(faiss, 'IndexFlatIP', lambda dimension: flat)
  addresses = set()

  def chunks():
    for row in np.ones((1000, 1, 2), np.float32):
      yield row
      vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * 2)
      addresses.add(vectors.ctypes.data)

  indexing.build_index(2, 1000, chunks())

  assert len(addresses) == 1


def test_replaced_rows_are_found_as_what_they_now_are():
  index = _built()
  indexing.replace_rows(index, np.array([1, 3]), np.array([[5, 5], [9, 0]]))

  scores, ranks = indexing.search(index, np.array([[1.0, 0]]), k=4)

  assert set(ranks[0, :2]) == {0, 3}
  np.testing.assert_allclose(scores, [[1, 1, 0.70711, 0.70711]], atol=1e-5)


def test_an_index_is_read_back_as_it_was_written(tmp_path):
  card = _written(tmp_path)
  index, ids, read = indexing.read_index(tmp_path, 'old', expected=card)

  assert ids == _IDS
  assert read.differences(card) == []
  _, ranks = indexing.search(index, np.array([[1.0, 0]]), k=4)
  assert ranks.tolist() == [[0, 2, 1, 3]]


def test_an_index_with_another_vector_than_was_written_is_refused(tmp_path):
  _written(tmp_path)
  whole = (tmp_path / 'old.faiss').read_bytes()
  place = whole.index(np.float32(1).tobytes())
  (tmp_path / 'old.faiss').write_bytes(
    whole[:place] + np.float32(0.5).tobytes() + whole[place + 4 :]
  )
  with pytest.raises(InputError, match=r'old\.faiss: its SHA-256 is'):
    indexing.read_index(tmp_path, 'old')


def test_the_files_of_an_index_can_be_read_without_this_package(tmp_path):
  _written(tmp_path)

  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'old.faiss',
    'old.ids.txt',
    'old.json',
  ]
  assert (tmp_path / 'old.ids.txt').read_text() == 'a\nb\nc\nd\n'
  assert json.loads((tmp_path / 'old.json').read_text())['weights'] == 'ab12'
  index = faiss.read_index(str(tmp_path / 'old.faiss'))
  np.testing.assert_allclose(index.reconstruct(1), [0, 1])


@pytest.mark.parametrize(
  ('changes', 'difference'),
  [
    ({'weights': 'cd34'}, 'weights: cd34 here, ab12 there'),
    ({'ids_digest': 'f0'}, 'ids_digest: f0 here'),
  ],
)
def test_an_index_of_another_encoder_or_gallery_is_refused(
  tmp_path, changes, difference
):
  _written(tmp_path)
  with pytest.raises(InputError, match=difference):
    indexing.read_index(tmp_path, 'old', card_of(_IDS, **changes))


def test_an_index_without_its_card_is_refused(tmp_path):
  _written(tmp_path)
  (tmp_path / 'old.json').unlink()
  with pytest.raises(
    InputError, match=r'old\.json: the card of this index is missing'
  ):
    indexing.read_index(tmp_path, 'old')


def test_a_card_that_is_no_card_is_refused(tmp_path):
  _written(tmp_path)
  (tmp_path / 'old.json').write_text('{"encoder": "resnet18"}')
  with pytest.raises(InputError, match='not the card of an embedding store'):
    indexing.read_index(tmp_path, 'old')


def test_ids_in_another_order_are_refused(tmp_path):
  _written(tmp_path)
  (tmp_path / 'old.ids.txt').write_text('b\na\nc\nd\n')
  with pytest.raises(InputError, match=r'old\.ids\.txt: not the images'):
    indexing.read_index(tmp_path, 'old')


def test_a_truncated_index_is_refused(tmp_path):
  _written(tmp_path)
  whole = (tmp_path / 'old.faiss').read_bytes()
  (tmp_path / 'old.faiss').write_bytes(whole[:-20])
  with pytest.raises(InputError, match=r'cannot read \.faiss'):
    indexing.read_index(tmp_path, 'old')


def test_an_index_of_another_kind_is_refused(tmp_path):
  _written(tmp_path)
  flat = faiss.IndexFlatIP(2)
  flat.add(_GALLERY)
  faiss.write_index(flat, str(tmp_path / 'old.faiss'))
  with pytest.raises(InputError, match='a IndexFlatIP, wanted an IndexIDMap2'):
    indexing.read_index(tmp_path, 'old')


@pytest.mark.parametrize(
  ('inner', 'kind'),
  [
    (faiss.IndexHNSWFlat(2, 4, faiss.METRIC_INNER_PRODUCT), 'IndexHNSWFlat'),
    (faiss.IndexFlatL2(2), 'IndexFlatL2'),
  ],
)
def test_an_index_that_is_not_exact_by_cosine_is_refused(tmp_path, inner, kind):
  _written(tmp_path)
  index = faiss.IndexIDMap2(inner)
  index.add_with_ids(_GALLERY, np.arange(4))
  faiss.write_index(index, str(tmp_path / 'old.faiss'))
  with pytest.raises(InputError, match=f'a {kind}, wanted an exact index'):
    indexing.read_index(tmp_path, 'old')


def test_an_index_whose_ids_are_no_positions_is_refused(tmp_path):
  _written(tmp_path)
  index = faiss.IndexIDMap2(faiss.IndexFlatIP(2))
  index.add_with_ids(_GALLERY, np.array([7, 8, 9, 10]))
  faiss.write_index(index, str(tmp_path / 'old.faiss'))
  with pytest.raises(InputError, match=r'not the positions 0 to 3 .*_ids'):
    indexing.read_index(tmp_path, 'old')


def test_an_index_of_another_size_than_its_card_says_is_refused(tmp_path):
  _written(tmp_path)
  faiss.write_index(_built(_GALLERY[:3]), str(tmp_path / 'old.faiss'))
  with pytest.raises(InputError, match='3 vectors of width 2, but'):
    indexing.read_index(tmp_path, 'old')


def test_a_rewrite_that_is_killed_leaves_no_card(tmp_path, monkeypatch):
  _written(tmp_path)

  def killed(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(faiss, 'write_index', killed)
  with pytest.raises(KeyboardInterrupt):
    _written(tmp_path, weights='cd34')

  with pytest.raises(InputError, match='the card of this index is missing'):
    indexing.read_index(tmp_path, 'old')
