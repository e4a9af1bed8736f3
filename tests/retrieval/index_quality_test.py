import dataclasses
import itertools

import faiss
import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.retrieval import index_quality, service_index
from advbct_jax.retrieval.service_index import Recipe
from tests.retrieval.service_stores import (
  COUNT,
  RECIPES,
  WIDTH,
  build,
  vectors,
  write_vectors,
)

pytestmark = pytest.mark.usefixtures('quick')


def _read_back(index, folder):
  faiss.write_index(index, str(folder / 'index.faiss'))
  return faiss.read_index(str(folder / 'index.faiss'))


def _unit(vectors):
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _expected_recall(index, gallery, queries, own=None):
  """Recall by its definition, but that near ties are not as good."""
  similarity = _unit(queries) @ _unit(gallery).T
  found = index.search(_unit(queries).astype(np.float32), len(gallery))[1]
  if own is not None:
    similarity[np.arange(len(own)), own] = -2
  shares = {k: [] for k in (1, 10, 100)}
  for row, (ranked, k) in enumerate(itertools.product(found, shares)):
    query = row // len(shares)
    others = [i for i in ranked if own is None or i != own[query]]
    exact = np.argsort(-similarity[query])[:k]
    shares[k].append(len(set(others[:k]) & set(exact)) / k)
  return {k: np.mean(values) for k, values in shares.items()}


@pytest.mark.parametrize('recipe', RECIPES, ids=lambda recipe: recipe.kind)
def test_recall_is_the_share_of_exact_matches(recipe, store, tmp_path):
  asked = vectors(50, seed=3)
  queries = write_vectors(tmp_path / 'queries', asked, chunk_rows=40)
  index = build(store, recipe)

  by_queries = index_quality.measure_index(index, store, queries)
  by_gallery = index_quality.measure_index(index, store)

  expected = _expected_recall(index, vectors(), asked)
  assert by_queries.queries == 50
  assert by_queries.recall == pytest.approx(expected, abs=1e-4)
  own = np.arange(COUNT)
  expected = _expected_recall(index, vectors(), vectors(), own)
  assert by_gallery.queries == COUNT
  assert by_gallery.recall == pytest.approx(expected, abs=1e-4)
  if recipe.kind == 'flat':
    assert set(by_gallery.recall.values()) == {1.0}
  elif recipe.kind != 'hnsw':
    assert by_gallery.recall[100] < 1


def test_copies_of_an_image_stand_for_each_other(tmp_path):
  copied = np.repeat(vectors(60), 10, axis=0)
  store = write_vectors(tmp_path / 'copies', copied)
  index = build(store, Recipe('flat'))

  # One of the nine copies comes first, and which one is chance.
  backwards = faiss.IndexIDMap2(faiss.IndexFlatIP(WIDTH))
  backwards.add_with_ids(_unit(copied).astype(np.float32), np.arange(600))
  for candidate in (index, backwards):
    measured = index_quality.measure_index(candidate, store)
    assert measured.recall == {1: 1.0, 10: 1.0, 100: 1.0}


def test_recall_does_not_depend_on_what_ids_are_called(store):
  recipe = Recipe('ivf_flat', lists=6, probes=1)
  positions = index_quality.measure_index(build(store, recipe), store)
  ids = 10**12 - np.arange(COUNT)
  named = index_quality.measure_index(build(store, recipe, ids), store)
  assert named.recall == positions.recall


def test_a_thousand_queries_are_drawn_from_all(store, monkeypatch):
  monkeypatch.setattr(index_quality, '_QUERIES', 30)
  measured = index_quality.measure_index(build(store, Recipe('flat')), store)
  assert measured.queries == 30
  assert [speed.queries for speed in measured.speeds] == [30, 1]


def test_queries_are_compared_by_their_compatible_part(store, tmp_path):
  index = build(store, RECIPES[1])
  asked = vectors(50, seed=3)
  wide = np.hstack([asked, 9 * np.ones((50, 3))])
  narrow_store = write_vectors(tmp_path / 'narrow', asked)
  wide_store = write_vectors(
    tmp_path / 'wide', wide, compatible_dimension=WIDTH
  )

  narrow, part = (
    index_quality.measure_index(index, store, queries).recall
    for queries in (narrow_store, wide_store)
  )
  assert part == narrow


def test_queries_of_another_width_are_refused(store, tmp_path):
  queries = write_vectors(tmp_path / 'queries', vectors(5, width=9))
  index = build(store, Recipe('flat'))
  with pytest.raises(InputError, match=r'width 9, but .*gallery gives .* 8'):
    index_quality.measure_index(index, store, queries)


@pytest.mark.parametrize(
  ('count', 'depths'), [(1, []), (2, [1]), (40, [1, 10])]
)
@pytest.mark.parametrize('kind', ['flat', 'ivf_flat', 'hnsw'])
def test_a_small_gallery_is_measured_as_deep_as_it_is(
  kind, count, depths, tmp_path
):
  store = write_vectors(tmp_path / 'small', vectors(count))
  recipe = service_index.complete_recipe(
    Recipe(kind, neighbors=2 if kind == 'hnsw' else None), max(count, 2), 8
  )
  measured = index_quality.measure_index(build(store, recipe), store)
  assert measured.recall == {depth: 1.0 for depth in depths}


def test_queries_that_a_part_of_the_gallery_compares_with_are_told_so(tmp_path):
  gallery = write_vectors(tmp_path / 'wide', vectors(9), compatible_dimension=6)
  queries = write_vectors(tmp_path / 'queries', vectors(5, width=6))
  with pytest.raises(InputError, match=r'first 6 components .*--compatible'):
    index_quality.require_comparable_queries(queries, gallery, WIDTH)
  index_quality.require_comparable_queries(queries, gallery, 6)


def test_an_index_of_the_compatible_part_is_compared_with_that(tmp_path):
  wide = np.hstack([vectors(), 9 * vectors(seed=5)])
  store = write_vectors(tmp_path / 'wide', wide)
  index = service_index.build_service_index(
    store, RECIPES[1], np.arange(COUNT), width=WIDTH
  )
  by_gallery = index_quality.measure_index(index, store)
  own = np.arange(COUNT)
  expected = _expected_recall(index, vectors(), vectors(), own)
  assert by_gallery.recall == pytest.approx(expected, abs=1e-4)


def test_single_queries_are_asked_on_one_thread(store, monkeypatch):
  faiss.omp_set_num_threads(2)
  threads = {}
  search = faiss.knn

  def watched(asked, *arguments):
    threads[len(asked)] = faiss.omp_get_max_threads()
    return search(asked, *arguments)

  index = build(store, Recipe('flat'))
  monkeypatch.setattr(index_quality.faiss, 'knn', watched)
  speeds = index_quality.measure_index(index, store).speeds
  assert threads == {COUNT: 2, 1: 1}
  assert [(speed.queries, speed.threads) for speed in speeds] == [
    (COUNT, 2),
    (1, 1),
  ]
  assert faiss.omp_get_max_threads() == 2


def test_a_single_query_is_timed_once(store, tmp_path):
  queries = write_vectors(tmp_path / 'one', vectors(1))
  index = build(store, Recipe('flat'))
  speeds = index_quality.measure_index(index, store, queries).speeds
  assert [speed.queries for speed in speeds] == [1]


def test_exact_search_is_timed_on_one_chunk_and_scaled(store, monkeypatch):
  clock = itertools.count()
  index = build(store, Recipe('flat'))
  monkeypatch.setattr(index_quality.time, 'perf_counter', lambda: next(clock))
  many, single = index_quality.measure_index(index, store).speeds

  # By this clock every round takes a second.
  assert many.index.median == COUNT
  assert many.exact.median == pytest.approx(COUNT * 250 / COUNT)
  assert single.index.median == 20
  assert dataclasses.astuple(single.exact) == pytest.approx(
    [20 * 250 / 600] * 3
  )
