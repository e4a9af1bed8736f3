import collections

import faiss
import numpy as np
import pytest

from advbct_jax.embeddings.store import write_store
from advbct_jax.errors import InputError
from advbct_jax.retrieval import service_index
from advbct_jax.retrieval.service_index import Recipe
from tests.retrieval.service_stores import (
  COUNT,
  RECIPES,
  WIDTH,
  build,
  vectors,
)
from tests.retrieval.small_sets import card_of

pytestmark = pytest.mark.usefixtures('quick')


def _read_back(index, folder):
  faiss.write_index(index, str(folder / 'index.faiss'))
  return faiss.read_index(str(folder / 'index.faiss'))


def _unit(vectors):
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
  ('recipe', 'count', 'width', 'options'),
  [
    (Recipe('flat'), 5, 8, {}),
    (Recipe('hnsw'), 5, 8, {'neighbors': 32}),
    (Recipe('ivf_flat'), 10**6, 128, {'lists': 4000, 'probes': 250}),
    # 39 vectors a list, where 4·√N lists would have fewer.
    (Recipe('ivf_flat'), 1000, 8, {'lists': 25, 'probes': 1}),
    (Recipe('ivf_flat'), 5, 8, {'lists': 1, 'probes': 1}),
    (Recipe('ivf_flat', lists=10), 1000, 8, {'lists': 10, 'probes': 1}),
    (Recipe('ivf_flat', probes=9), 1000, 8, {'lists': 25, 'probes': 9}),
    (Recipe('ivf_pq'), 390, 256, {'lists': 10, 'probes': 1, 'bytes': 32}),
    (Recipe('ivf_pq'), 390, 100, {'lists': 10, 'probes': 1, 'bytes': 10}),
    (Recipe('ivf_pq'), 390, 2, {'lists': 10, 'probes': 1, 'bytes': 1}),
    (Recipe('ivf_pq', bytes=4), 390, 8, {'lists': 10, 'probes': 1, 'bytes': 4}),
  ],
)
def test_what_is_left_open_follows_the_size_of_the_store(
  recipe, count, width, options
):
  complete = service_index.complete_recipe(recipe, count, width)
  assert complete.options() == options


@pytest.mark.parametrize(
  ('recipe', 'count', 'message'),
  [
    (Recipe('flat', lists=3), 1000, '--lists: belongs to ivf_flat and ivf_pq'),
    (Recipe('hnsw', probes=3), 1000, '--probes: belongs to ivf_flat'),
    (Recipe('ivf_flat', bytes=4), 1000, '--bytes: belongs to ivf_pq, found'),
    (Recipe('ivf_pq', neighbors=4), 1000, '--neighbors: belongs to hnsw'),
    (Recipe('ivf_flat', lists=26), 1000, 'found 26, wanted 1 to 25 .39'),
    (Recipe('ivf_flat', lists=0), 1000, '--lists: found 0, wanted 1 to 25'),
    (Recipe('ivf_flat', probes=26), 1000, '--probes: found 26, wanted 1 to 25'),
    (Recipe('hnsw', neighbors=1), 1000, '--neighbors: found 1, wanted 2'),
    (Recipe('ivf_pq', bytes=5), 1000, 'found 5, .* 12.*: 1, 2, 3, 4, 6, 12'),
    (Recipe('ivf_pq'), 255, 'found 255 vectors.* Take --kind=flat'),
    (Recipe('flat'), 0, 'found no vectors'),
  ],
)
def test_what_cannot_be_built_is_refused(recipe, count, message):
  with pytest.raises(InputError, match=message):
    service_index.complete_recipe(recipe, count, 12)


def test_integers_become_ids():
  names = ['0', '-7', str(2**63 - 1), str(-(2**63))]
  ids = service_index.integer_ids(names)
  assert ids.dtype == np.int64
  assert [str(number) for number in ids] == names


@pytest.mark.parametrize(
  'name', ['a', '', '1.5', '007', '1_0', ' 1', '-0', '٣', str(2**63), '-1']
)
def test_the_first_id_that_is_no_integer_of_64_bits_is_refused(name):
  with pytest.raises(InputError, match=f"the id '{name}' in row 1;"):
    service_index.integer_ids(['4', name, 'b'])


def test_an_id_that_comes_twice_is_refused():
  with pytest.raises(InputError, match='the id 5 more than once'):
    service_index.integer_ids(['4', '5', '6', '5'])


@pytest.mark.parametrize('recipe', RECIPES, ids=lambda recipe: recipe.kind)
def test_plain_faiss_finds_vectors_under_their_ids(recipe, store, tmp_path):
  ids = np.random.default_rng(1).permutation(10 * COUNT)[:COUNT]
  index = _read_back(build(store, recipe, ids), tmp_path)

  assert isinstance(index, faiss.IndexIDMap2)
  assert index.metric_type == faiss.METRIC_INNER_PRODUCT
  assert index.ntotal == COUNT
  queries = _unit(vectors())
  scores, found = index.search(queries.astype(np.float32), 10)
  exactly = recipe.kind != 'ivf_pq'
  hits = (found == ids[:, None])[:, : 1 if exactly else 10].any(axis=1)
  assert hits.mean() > (0.99 if exactly else 0.6)
  if exactly:
    np.testing.assert_allclose(scores[hits, 0], 1, atol=1e-5)


@pytest.mark.parametrize('recipe', RECIPES, ids=lambda recipe: recipe.kind)
def test_a_vector_is_stored_at_length_1(recipe, store):
  index = build(store, recipe)
  inner = faiss.downcast_index(index.index)
  if recipe.lists:
    inner.make_direct_map()
  stored = inner.reconstruct(COUNT - 1)
  error = np.linalg.norm(stored - _unit(vectors())[-1])
  assert error < (0.6 if recipe.kind == 'ivf_pq' else 1e-6)


def test_how_far_a_search_looks_is_read_back(store, tmp_path):
  lists = _read_back(build(store, RECIPES[1]), tmp_path)
  graph = _read_back(build(store, RECIPES[3]), tmp_path)

  assert faiss.extract_index_ivf(lists).nlist == 6
  assert faiss.extract_index_ivf(lists).nprobe == 2
  hnsw = faiss.downcast_index(graph.index).hnsw
  assert (hnsw.nb_neighbors(0), hnsw.nb_neighbors(1)) == (8, 4)
  assert (hnsw.efConstruction, hnsw.efSearch) == (100, 128)


def test_bytes_are_those_of_a_vector(store):
  index = build(store, RECIPES[2])
  inner = faiss.downcast_index(index.index)
  assert inner.code_size == 4
  assert inner.pq.dsub == 2


def test_a_sample_of_the_whole_store_is_trained_on(store, monkeypatch):
  samples = []
  train = service_index._train

  def recorded(inverted, sample, seed):
    samples.append(sample.copy())
    train(inverted, sample, seed)

  monkeypatch.setattr(service_index, '_train', recorded)
  first, again = (build(store, Recipe('ivf_flat', 2, 1)) for _ in range(2))

  rows = _unit(vectors()).astype(np.float32)
  positions = [int(np.abs(rows - x).sum(axis=1).argmin()) for x in samples[0]]
  np.testing.assert_allclose(rows[positions], samples[0], atol=1e-6)
  assert len(set(positions)) == 2 * 64
  assert {position // 250 for position in positions} == {0, 1, 2}
  np.testing.assert_array_equal(samples[0], samples[1])
  assert faiss.serialize_index(first).tobytes() == (
    faiss.serialize_index(again).tobytes()
  )


def test_training_finds_better_centroids_round_by_round(store, monkeypatch):
  def mean_similarity(rounds):
    monkeypatch.setattr(service_index, '_ROUNDS', rounds)
    index = build(store, RECIPES[1])
    rows = _unit(vectors()).astype(np.float32)
    centroids = faiss.extract_index_ivf(index).quantizer
    return centroids.search(rows, 1)[0].mean()

  similarities = [mean_similarity(rounds) for rounds in (1, 2, 10)]
  assert similarities == sorted(set(similarities))


@pytest.mark.parametrize('kind', ['flat', 'hnsw'])
def test_memory_for_the_vectors_is_taken_once(store, monkeypatch, kind):
  made = []
  factory = faiss.index_factory

  def recorded(*arguments):
    made.append(factory(*arguments))
    return made[-1]

  monkeypatch.setattr(faiss, 'index_factory', recorded)
  monkeypatch.setattr(service_index, '_BLOCK_ROWS', 50)
  recipe = service_index.complete_recipe(Recipe(kind), COUNT, WIDTH)
  addresses = collections.defaultdict(set)
  unit_rows = service_index.unit_rows

  def watched(rows):
    flat = faiss.downcast_index(made[0].index)
    flat = faiss.downcast_index(flat.storage) if kind == 'hnsw' else flat
    if flat.ntotal:
      addresses['vectors'].add(int(flat.get_xb()))
    if flat.ntotal and kind == 'hnsw':
      hnsw = faiss.downcast_index(made[0].index).hnsw
      addresses['neighbors'].add(int(hnsw.neighbors.data()))
    return unit_rows(rows)

  monkeypatch.setattr(service_index, 'unit_rows', watched)
  index = build(store, recipe)
  watched(np.ones((1, WIDTH)))
  assert index.ntotal == COUNT
  wanted = {'flat': ['vectors'], 'hnsw': ['vectors', 'neighbors']}
  assert sorted(addresses) == sorted(wanted[kind])
  assert {len(seen) for seen in addresses.values()} == {1}


def test_half_precision_vectors_are_normalised_in_full(tmp_path):
  # The squares of 300 don't fit into float16.
  vectors = np.array([[300, 0], [0, 300], [300, 300]], np.float16)
  ids = ['a', 'b', 'c']
  card = card_of(ids, dtype='float16')
  store = write_store(tmp_path / 'half', card, ids, vectors)
  scores, found = build(store, Recipe('flat')).search(
    np.array([[1, 0]], np.float32), 3
  )
  assert found.tolist() == [[0, 2, 1]]
  np.testing.assert_allclose(scores, [[1, 0.70711, 0]], atol=1e-5)
