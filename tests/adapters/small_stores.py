"""Stores of a few made-up vectors, and encoders that say them."""

import numpy as np

from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.store import Card, write_store

# What trains for long by default.
QUICK = {
  'residual_mlp': {'steps': 60},
  'fastfill': {'steps': 60, 'hidden': 16},
  'fct': {'epochs': 150, 'hidden': 16, 'batch_size': 64, 'learning_rate': 0.01},
}


def ids_of(count):
  return [f'image{number}' for number in range(count)]


def write(path, vectors, ids=None, **changes):
  """Writes a complete store of [N, D] vectors."""
  vectors = np.asarray(vectors, np.float32)
  ids = list(ids or ids_of(len(vectors)))
  facts = {
    'encoder': 'net',
    'weights': path.name,
    'dimension': vectors.shape[1],
    'preprocessing': 'none',
    'images': 'train',
    'ids_digest': digest_ids(ids),
    'count': len(ids),
    'chunk_rows': 400,
  }
  labels = changes.pop('labels', None)
  if labels:
    facts['labels_digest'] = digest_ids(labels)
  return write_store(path, Card(**(facts | changes)), ids, vectors, labels)


def random_rotation(width, seed=0):
  random = np.random.default_rng(seed)
  return np.linalg.qr(random.normal(size=(width, width)))[0]


def unit(vectors):
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mean_cosine(mapped, old):
  return float(np.mean(np.sum(unit(mapped) * unit(old), axis=1)))
