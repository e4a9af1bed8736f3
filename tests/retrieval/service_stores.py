"""Small stores of clustered vectors, and service indexes over them."""

import numpy as np

from advbct_jax.embeddings.store import write_store
from advbct_jax.retrieval import service_index
from advbct_jax.retrieval.service_index import Recipe
from tests.retrieval.small_sets import card_of

COUNT, WIDTH = 600, 8
RECIPES = [
  Recipe('flat'),
  Recipe('ivf_flat', lists=6, probes=2),
  Recipe('ivf_pq', lists=6, probes=2, bytes=4),
  Recipe('hnsw', neighbors=4),
]


def vectors(count=COUNT, width=WIDTH, seed=0):
  rng = np.random.default_rng(seed)
  centers = np.random.default_rng(7).normal(size=(20, width))
  rows = centers[rng.integers(0, 20, count)] + rng.normal(size=(count, width))
  return rows.astype(np.float32) * rng.uniform(0.1, 9, (count, 1))


def write_vectors(path, rows, **changes):
  rows = np.asarray(rows, np.float32)
  ids = [f'image{row}' for row in range(len(rows))]
  facts = {'dimension': rows.shape[1], 'chunk_rows': 250} | changes
  return write_store(path, card_of(ids, **facts), ids, rows)


def build(store, recipe, ids=None):
  ids = np.arange(store.card.count) if ids is None else ids
  return service_index.build_service_index(store, recipe, ids)
