"""Fixtures of the tests of service indexes."""

import faiss
import pytest

from advbct_jax.retrieval import index_quality, service_index
from tests.retrieval.service_stores import vectors, write_vectors


@pytest.fixture
def quick(monkeypatch):
  """Few rounds, and no threads that wait for each other over tiny work."""
  monkeypatch.setattr(service_index, '_ROUNDS', 3)
  monkeypatch.setattr(index_quality, '_TIMED_ROUNDS', 1)
  threads = faiss.omp_get_max_threads()
  faiss.omp_set_num_threads(1)
  yield
  faiss.omp_set_num_threads(threads)


@pytest.fixture
def store(tmp_path):
  return write_vectors(tmp_path / 'gallery', vectors())
