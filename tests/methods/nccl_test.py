"""NCCL, derived again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.methods import make_method
from advbct_jax.methods.method import MEMORY, OldModel, OldSide, Progress
from advbct_jax.methods.nccl import confident
from tests.methods.given_embeddings import GivenEmbeddings, batch_of

PROGRESS = Progress(jnp.asarray(7), steps=20, steps_per_epoch=5)
RANDOM = np.random.default_rng(1)
LABELS = np.arange(8) % 3
NEW, STORED = RANDOM.normal(size=(2, 8, 4)).astype(np.float32)
OLD = OldModel(class_statistics(STORED, LABELS, 3), np.arange(3))


def _unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def _contrast(queries, keys, weights, same):
  """The weighted mean over each query's neighbours, sample by sample."""
  losses = []
  for query, weight, mask in zip(queries, weights, same, strict=True):
    if not mask.any():
      continue
    logits = keys @ query
    log_softmax = logits - np.log(np.exp(logits).sum())
    losses.append(-(weight * log_softmax)[mask].sum() / mask.sum())
  return np.mean(losses)


class Training:
  """The method, taking batch after batch."""

  def __init__(self, prepared=None, **options):
    self.method = make_method('nccl', GivenEmbeddings(), 3, options)
    if prepared is None:
      prepared = np.ones(8, bool)
    self.old = OLD.replace(prepared=prepared)
    batch = batch_of(NEW, LABELS, STORED)
    self.variables = self.method.init(
      jax.random.key(0), batch, self.old, PROGRESS
    )

  @property
  def weights(self):
    """[C, D] the classifier's, of length 1."""
    return _unit(np.asarray(self.variables['params']['classifier']['kernel']).T)

  def take(self, batch):
    outcome, updated = self.method.apply(
      self.variables, batch, self.old, PROGRESS, mutable=[MEMORY]
    )
    self.variables = {**self.variables, **updated}
    return outcome


def test_the_loss_is_classification_plus_two_contrasts_with_the_queue():
  training = Training(queue=8, embedding_weight=0.7, logit_weight=0.2)
  weights = training.weights
  outcome = training.take(batch_of(NEW, LABELS, STORED))

  new, old = _unit(NEW), _unit(STORED)
  same = LABELS[:, None] == LABELS
  closeness = (1 + old @ old.T) / 2
  wanted = [
    _contrast(new, old, closeness, same),
    _contrast(new @ weights.T, old @ weights.T, closeness, same),
  ]
  metrics = outcome.metrics
  assert float(metrics['embedding_contrast']) == pytest.approx(
    wanted[0], rel=1e-5
  )
  assert float(metrics['logit_contrast']) == pytest.approx(wanted[1], rel=1e-5)
  assert float(outcome.loss) == pytest.approx(
    float(metrics['classification_loss']) + 0.7 * wanted[0] + 0.2 * wanted[1],
    rel=1e-5,
  )


def test_places_that_nothing_has_filled_take_no_part():
  losses = [
    float(Training(queue=queue).take(batch_of(NEW, LABELS, STORED)).loss)
    for queue in (8, 100)
  ]
  assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_queue_holds_the_last_batches_and_forgets_the_first():
  training = Training(queue=12)
  later = RANDOM.normal(size=(8, 4)).astype(np.float32)
  training.take(batch_of(NEW, LABELS, STORED))
  training.take(batch_of(NEW, LABELS, later))

  memory = training.variables[MEMORY]
  assert int(memory['head']) == 4
  np.testing.assert_allclose(
    memory['embeddings'],
    np.concatenate([_unit(later)[4:], _unit(STORED)[4:], _unit(later)[:4]]),
    rtol=1e-6,
  )
  np.testing.assert_array_equal(
    memory['labels'], np.concatenate([LABELS[4:], LABELS[4:], LABELS[:4]])
  )


def test_of_a_batch_larger_than_the_queue_the_last_stay():
  training = Training(queue=5)
  training.take(batch_of(NEW, LABELS, STORED))
  np.testing.assert_allclose(
    training.variables[MEMORY]['embeddings'], _unit(STORED)[3:], rtol=1e-6
  )


def test_embeddings_that_are_not_credible_stay_out():
  credible = np.array([1, 1, 0, 1, 0, 1, 1, 1], bool)
  training = Training(credible, queue=8)
  outcome = training.take(batch_of(NEW, LABELS, STORED))

  new, old = _unit(NEW), _unit(STORED)
  same = LABELS[:, None] == LABELS[credible]
  wanted = _contrast(new, old[credible], (1 + old @ old[credible].T) / 2, same)
  assert float(outcome.metrics['embedding_contrast']) == pytest.approx(
    wanted, rel=1e-5
  )


def test_the_old_model_is_trusted_where_its_entropy_is_at_most_half():
  random = np.random.default_rng(0)
  logits = random.normal(0, 3, size=(50, 6))
  probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
  wanted = entropy <= np.log(6) / 2
  assert 0 < wanted.sum() < 50
  np.testing.assert_array_equal(confident(logits), wanted)


@pytest.mark.parametrize('known', [True, False])
def test_without_an_old_classifier_all_are_credible(known):
  classifier = 0.01 * RANDOM.normal(size=(3, 4)).astype(np.float32)
  old = OLD.replace(classifier=classifier if known else None)
  side = OldSide(STORED, LABELS, LABELS, old)
  found = make_method('nccl', GivenEmbeddings(), 3, {}).prepare(side)
  # So small a classifier is sure of nothing.
  assert found.tolist() == [not known] * 8
