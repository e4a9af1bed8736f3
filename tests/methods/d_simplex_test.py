"""The d-Simplex and HOC, derived again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.data.splits import split_training_set
from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.errors import InputError
from advbct_jax.methods import make_method
from advbct_jax.methods.d_simplex import vertex_scores
from advbct_jax.methods.method import OldModel, Progress
from tests.methods.given_embeddings import GivenEmbeddings, batch_of

PROGRESS = Progress(jnp.asarray(7), steps=20, steps_per_epoch=5)
RANDOM = np.random.default_rng(1)
LABELS = np.arange(8) % 3
NEW, STORED = RANDOM.normal(size=(2, 8, 5)).astype(np.float32)
OLD = OldModel(class_statistics(STORED, LABELS, 3), np.arange(3))
OUT_OF_ORDER = np.array([4, 0, 2])


def simplex(count):
  """[K, K − 1] vertices, as they are defined."""
  width = count - 1
  last = np.full((1, width), (1 - np.sqrt(count)) / width)
  points = np.concatenate([np.eye(width), last])
  points -= points.mean(axis=0)
  return points / np.linalg.norm(points, axis=1, keepdims=True)


def cross_entropy(logits, labels):
  log_sum = np.log(np.exp(logits).sum(axis=1))
  return (log_sum - logits[np.arange(len(labels)), labels]).mean()


def _unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def _apply(name, new=NEW, places=None, **options):
  method = make_method(
    name, GivenEmbeddings(), 3, {'vertices': 6} | options, places=places
  )
  return method.apply({}, batch_of(new, LABELS, STORED), OLD, PROGRESS)


@pytest.mark.parametrize('count', [2, 3, 40])
def test_scores_are_those_of_a_regular_simplex(count):
  embeddings = RANDOM.normal(size=(4, count - 1)).astype(np.float32)
  np.testing.assert_allclose(
    vertex_scores(embeddings), embeddings @ simplex(count).T, atol=1e-5
  )
  vertices = np.asarray(vertex_scores(jnp.eye(count - 1))).T
  np.testing.assert_allclose(
    vertices @ vertices.T,
    np.where(np.eye(count, dtype=bool), 1, -1 / (count - 1)),
    atol=1e-5,
  )


@pytest.mark.parametrize('places', [None, OUT_OF_ORDER])
def test_the_loss_is_cross_entropy_over_all_vertices(places):
  outcome = _apply('d_simplex', places=places)
  vertex = np.arange(3) if places is None else places
  wanted = cross_entropy(NEW @ simplex(6).T, vertex[LABELS])
  assert float(outcome.loss) == pytest.approx(wanted, rel=1e-5)
  np.testing.assert_array_equal(outcome.embeddings, NEW)


def test_an_embedding_on_the_vertex_of_its_class_is_a_hit():
  vertices = simplex(6).astype(np.float32)
  placed = vertices[OUT_OF_ORDER[LABELS]]
  found = _apply('d_simplex', placed, OUT_OF_ORDER)
  assert float(found.metrics['accuracy']) == 1
  # By their numbers classes would be elsewhere, but for the last.
  found = _apply('d_simplex', placed)
  assert float(found.metrics['accuracy']) == (LABELS == 2).mean()


def test_hoc_adds_the_contrast_of_old_with_new():
  outcome = _apply('hoc', classification_weight=0.3, scale=4.0)
  new, old = _unit(NEW), _unit(STORED)
  contrast = 0
  for i in range(8):
    logits = [
      0 if LABELS[i] == LABELS[j] else 4 * old[i] @ new[j] for j in range(8)
    ]
    contrast += np.log(np.exp(logits).sum()) - 4 * old[i] @ new[i]
  contrast /= 8
  classification = cross_entropy(NEW @ simplex(6).T, LABELS)
  assert float(outcome.metrics['contrast_loss']) == pytest.approx(
    contrast, rel=1e-5
  )
  assert float(outcome.loss) == pytest.approx(
    0.3 * classification + 0.7 * contrast, rel=1e-5
  )


@pytest.mark.parametrize('name', ['d_simplex', 'hoc'])
def test_embeddings_of_another_width_than_the_vertices_are_refused(name):
  with pytest.raises(InputError, match=r'vertices is 9, .*dimension is 5'):
    _apply(name, vertices=9)
  method = make_method(
    name, GivenEmbeddings(), 3, {'vertices': 6}, compatible_dimension=4
  )
  with pytest.raises(InputError, match='an embedding has 4 components'):
    method.apply({}, batch_of(NEW, LABELS, STORED), OLD, PROGRESS)


def test_more_classes_than_vertices_are_refused():
  with pytest.raises(InputError, match=r'vertices is 6, .* at least 7 classes'):
    _apply('d_simplex', places=np.array([0, 6, 2]))


def test_a_landmark_has_one_vertex_whatever_part_of_the_data_is_trained_on():
  landmarks = np.repeat([40, 7, 300, 12, 55, 90, 61], 4)
  # A data set that has grown has further landmarks, with higher ids.
  grown = np.concatenate([landmarks, np.repeat([301, 999], 4)])
  found = [
    split_training_set(data, kind, fraction, seed)
    for data in (landmarks, grown)
    for kind, fraction, seed in (
      ('extended_class', 0.5, 1),
      ('extended_class', 0.8, 2),
      ('extended_data', 0.5, 3),
    )
  ]
  assert len({tuple(split.landmarks) for split in found}) == len(found)
  wanted = {7: 0, 12: 1, 40: 2, 55: 3, 61: 4, 90: 5, 300: 6, 301: 7, 999: 8}
  for split in found:
    for landmark, place in zip(split.landmarks, split.places, strict=True):
      assert place == wanted[landmark]


def test_the_gradient_of_hoc_reaches_every_new_embedding():
  gradient = jax.grad(lambda new: _apply('hoc', new).loss)(jnp.asarray(NEW))
  assert np.abs(gradient).min(axis=1).all()
