"""Ties to the same images' old embeddings, derived again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.methods import make_method
from advbct_jax.methods.method import OldModel, Progress
from tests.methods.given_embeddings import GivenEmbeddings, batch_of

PROGRESS = Progress(jnp.asarray(7), steps=20, steps_per_epoch=5)
RANDOM = np.random.default_rng(1)
LABELS = np.arange(10) % 4
NEW, STORED = RANDOM.normal(size=(2, 10, 5)).astype(np.float32)
# The old model knows two of the four classes, and numbers them otherwise.
OLD_CLASS = np.array([1, -1, 0, -1])
CENTERS = class_statistics(STORED, OLD_CLASS[LABELS], 2)
CLASSIFIER = RANDOM.normal(size=(2, 5)).astype(np.float32)
BATCH = batch_of(NEW, LABELS, STORED)


def _unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


class Tied:
  """A method on the batch: its outcome, and what its tie adds to the loss."""

  def __init__(self, name, batch=BATCH, classifier=CLASSIFIER, **options):
    self._method = make_method(name, GivenEmbeddings(), 4, options)
    self._inputs = batch, OldModel(CENTERS, OLD_CLASS, classifier), PROGRESS
    self._variables = self._method.init(jax.random.key(0), *self._inputs)
    self.outcome = self._method.apply(self._variables, *self._inputs)
    self.tie = float(
      self.outcome.loss - self.outcome.metrics['classification_loss']
    )

  @property
  def kernel(self):
    """[D, C] of the new classifier."""
    return np.asarray(self._variables['params']['classifier']['kernel'])

  def tie_gradients(self):
    """Of the tie alone: by the embeddings, and by the new classifier."""

    def tie(embeddings, params):
      batch, *others = self._inputs
      batch = batch.replace(images=embeddings)
      outcome = self._method.apply({'params': params}, batch, *others)
      return outcome.loss - outcome.metrics['classification_loss']

    gradients = jax.grad(tie, argnums=(0, 1))(NEW, self._variables['params'])
    return gradients[0], gradients[1]['classifier']['kernel']


@pytest.mark.parametrize(
  ('name', 'options', 'threshold', 'weight'),
  [
    ('l2', {}, 0.0, 10.0),
    ('weakened_l2', {}, 0.2, 10.0),
    ('weakened_l2', {'threshold': 1.2, 'weight': 3.0}, 1.2, 3.0),
  ],
)
def test_l2_is_the_distance_beyond_a_threshold(
  name, options, threshold, weight
):
  distances = np.linalg.norm(_unit(NEW) - _unit(STORED), axis=1)
  if options:
    assert distances.min() < threshold < distances.max()
  wanted = weight * np.maximum(distances - threshold, 0).mean()
  assert Tied(name, **options).tie == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize('negatives', [2, 10])
def test_triplets_are_of_the_nearest_old_embeddings_of_other_classes(negatives):
  new, old = _unit(NEW), _unit(STORED)
  costs = []
  for i in range(10):
    others = [j for j in range(10) if LABELS[j] != LABELS[i]]
    apart = sorted(np.linalg.norm(new[i] - old[j]) for j in others)
    near = np.linalg.norm(new[i] - old[i])
    costs += [max(near - far + 0.3, 0) for far in apart[:negatives]]
  assert negatives == 2 or 0 in costs
  tied = Tied('triplet', margin=0.3, negatives=negatives, weight=2.0)
  assert tied.tie == pytest.approx(2 * np.mean(costs), rel=1e-5)


def test_triplets_of_one_class_alone_cost_nothing():
  tied = Tied('triplet', batch=batch_of(NEW, np.zeros(10, int), STORED))
  assert tied.tie == 0
  assert np.isfinite(tied.tie_gradients()[0]).all()


def test_a_triplet_has_a_finite_gradient_where_new_and_old_are_one():
  tied = Tied('triplet', batch=batch_of(NEW, LABELS, NEW))
  assert tied.tie > 0
  assert np.isfinite(tied.tie_gradients()[0]).all()


def _softmax(logits):
  powers = np.exp(logits - logits.max(axis=1, keepdims=True))
  return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize('known', [True, False])
def test_lwf_is_the_cross_entropy_of_what_the_old_classifier_says(known):
  weights = CLASSIFIER if known else CENTERS.center
  targets = _softmax(STORED @ weights.T / 0.5)
  wanted = -(targets * np.log(_softmax(NEW @ weights.T / 0.5))).sum(axis=1)
  tied = Tied(
    'lwf',
    classifier=CLASSIFIER if known else None,
    temperature=0.5,
    weight=0.7,
  )
  assert tied.tie == pytest.approx(0.7 * wanted.mean(), rel=1e-5)


def test_of_lwf_the_new_embeddings_alone_have_a_gradient():
  embeddings, classifier = Tied('lwf', temperature=0.5).tie_gradients()
  # Softmax less target, through W_old; the new classifier has no part in it.
  difference = _softmax(NEW @ CLASSIFIER.T / 0.5) - _softmax(
    STORED @ CLASSIFIER.T / 0.5
  )
  np.testing.assert_allclose(
    embeddings, difference @ CLASSIFIER / 0.5 / 10, atol=1e-6
  )
  assert np.abs(classifier).max() == 0


@pytest.mark.parametrize('known', [True, False])
def test_ranking_has_the_wrong_new_classes_as_negatives_too(known):
  tied = Tied(
    'bct_ranking', classifier=CLASSIFIER if known else None, weight=0.7
  )
  weights = CLASSIFIER if known else CENTERS.center
  losses = []
  for embedding, label in zip(NEW, LABELS, strict=True):
    if OLD_CLASS[label] < 0:
      continue
    old = weights @ embedding
    wrong = np.delete(tied.kernel.T @ embedding, label)
    total = np.exp(old).sum() + np.exp(wrong).sum()
    losses.append(np.log(total) - old[OLD_CLASS[label]])
  assert tied.tie == pytest.approx(0.7 * np.mean(losses), rel=1e-5)
  # The new classifier is pushed away from wrong classes, as published.
  assert np.abs(tied.tie_gradients()[1]).max() > 0
