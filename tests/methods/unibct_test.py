"""UniBCT's refinement, derived again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.errors import InputError
from advbct_jax.methods import make_method, propagation, unibct
from advbct_jax.methods.method import MEMORY, OldModel, OldSide, Progress
from advbct_jax.methods.propagation import propagate, transition
from tests.methods.given_embeddings import GivenEmbeddings, batch_of

RANDOM = np.random.default_rng(1)
LABELS = np.arange(12) % 4
NEW, STORED = RANDOM.normal(size=(2, 12, 5)).astype(np.float32)
# The old model knows two of the four classes.
OLD_CLASS = np.array([1, -1, 0, -1])
OLD = OldModel(class_statistics(STORED, OLD_CLASS[LABELS], 2), OLD_CLASS)
SIDE = OldSide(STORED, LABELS, OLD_CLASS[LABELS], OLD)


def _unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def _refined(share, temperature, nearest=11):
  """(1 − λ)(I − λA)⁻¹V, with A written out and the inverse taken."""
  cosines = _unit(NEW) @ _unit(NEW).T
  weights = np.zeros((12, 12))
  for row in range(12):
    others = [other for other in range(12) if other != row]
    others.sort(key=lambda other: -cosines[row, other])
    for other in others[:nearest]:
      weights[row, other] = np.exp(cosines[row, other] / temperature)
    weights[row] /= weights[row].sum()
  inverse = np.linalg.inv(np.eye(12) - share * weights)
  return (1 - share) * inverse @ _unit(STORED)


def _method(**options):
  return make_method('unibct', GivenEmbeddings(), 4, options)


def _arcface(embeddings, prototypes, own, scale, margin):
  cosine = _unit(embeddings) @ _unit(prototypes).T
  losses = []
  for row, label in zip(cosine, own, strict=True):
    logits = scale * row
    logits[label] = scale * np.cos(np.arccos(row[label]) + margin)
    losses.append(np.log(np.exp(logits).sum()) - logits[label])
  return np.mean(losses)


@pytest.mark.parametrize('neighbors', [0, 3, 50])
def test_prototypes_are_the_class_means_of_what_has_flowed(neighbors):
  method = _method(
    refinement_epochs=(1,),
    propagation=0.7,
    temperature=0.3,
    neighbors=neighbors,
  )
  memory = method.refresh({}, SIDE, lambda: 3 * NEW)
  flowed = _refined(0.7, 0.3, neighbors or 11)
  np.testing.assert_allclose(
    memory['prototypes'],
    [flowed[label == LABELS].mean(axis=0) for label in range(4)],
    atol=2e-6,
  )
  assert memory['prototypes'].dtype == np.float32


def test_neighbors_are_found_block_by_block(monkeypatch):
  whole = transition(NEW, 0.05, 4).toarray()
  monkeypatch.setattr(propagation, '_BLOCK_ROWS', 5)
  np.testing.assert_allclose(transition(NEW, 0.05, 4).toarray(), whole)
  assert (np.count_nonzero(whole, axis=1) == 4).all()


def test_nothing_flows_from_a_single_image_or_by_no_share():
  assert transition(NEW[:1], 0.05).tolist() == [[0]]
  assert transition(NEW[:1], 0.05, 3).tolist() == [[0]]
  np.testing.assert_array_equal(
    propagate(transition(NEW, 0.05), STORED, 0.0), STORED
  )


def test_the_tie_begins_with_the_first_refinement_and_is_of_all_samples():
  method = _method(refinement_epochs=(2, 3), scale=4.0, margin=0.2, weight=0.5)
  batch = batch_of(NEW, LABELS, STORED)

  def outcome_at(step, variables):
    progress = Progress(jnp.asarray(step), steps=20, steps_per_epoch=5)
    return method.apply(variables, batch, OLD, progress, mutable=[MEMORY])[0]

  progress = Progress(jnp.asarray(0), steps=20, steps_per_epoch=5)
  variables = method.init(jax.random.key(0), batch, OLD, progress)
  before = outcome_at(9, variables)
  assert float(before.loss) == float(before.metrics['classification_loss'])

  memory = method.refresh(variables[MEMORY], SIDE, lambda: NEW)
  assert memory['prototypes'].shape == variables[MEMORY]['prototypes'].shape
  after = outcome_at(10, {**variables, MEMORY: memory})
  wanted = _arcface(NEW, memory['prototypes'], LABELS, 4.0, 0.2)
  assert float(after.metrics['prototype_loss']) == pytest.approx(
    wanted, rel=1e-5
  )
  assert float(after.loss) == pytest.approx(
    float(after.metrics['classification_loss']) + 0.5 * wanted, rel=1e-5
  )


def test_unrefined_prototypes_are_the_old_centres_and_keep_no_memory():
  method = _method(scale=4.0)
  batch = batch_of(NEW, LABELS, STORED)
  progress = Progress(jnp.asarray(0), steps=20, steps_per_epoch=5)
  variables = method.init(jax.random.key(0), batch, OLD, progress)
  assert MEMORY not in variables
  assert method.refresh_epochs == ()
  outcome = method.apply(variables, batch, OLD, progress)
  known = OLD_CLASS[LABELS] >= 0
  wanted = _arcface(
    NEW[known], OLD.statistics.center, OLD_CLASS[LABELS][known], 4.0, 0.3
  )
  assert float(outcome.metrics['prototype_loss']) == pytest.approx(
    wanted, rel=1e-5
  )


def test_a_training_that_ends_before_the_tie_begins_is_refused():
  method = _method(refinement_epochs=(4,))
  progress = Progress(jnp.asarray(0), steps=20, steps_per_epoch=5)
  with pytest.raises(InputError, match=r'begin at 4, but .* has 4 epochs'):
    method.init(jax.random.key(0), batch_of(NEW, LABELS, STORED), OLD, progress)


@pytest.mark.parametrize('share', [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(share):
  with pytest.raises(InputError, match=r'unibct\.propagation'):
    _method(propagation=share)


def test_more_images_than_can_all_be_neighbors_are_refused_at_once(monkeypatch):
  monkeypatch.setattr(unibct, '_MOST_DENSE', 11)
  with pytest.raises(InputError, match=r'unibct\.neighbors is 0'):
    _method(refinement_epochs=(1,)).prepare(SIDE)
  _method(refinement_epochs=(1,), neighbors=5).prepare(SIDE)
  _method().prepare(SIDE)
