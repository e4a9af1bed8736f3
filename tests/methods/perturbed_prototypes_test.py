"""ODPP and NDPP, derived again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.errors import InputError
from advbct_jax.methods import make_method, ndpp
from advbct_jax.methods.method import MEMORY, OldModel, OldSide, Progress
from advbct_jax.methods.odpp import crowding_gradient, draw_partners
from tests.methods.given_embeddings import GivenEmbeddings, batch_of

PROGRESS = Progress(jnp.asarray(7), steps=20, steps_per_epoch=5)
RANDOM = np.random.default_rng(1)
LABELS = np.arange(24) % 8
# Crowded, so that a threshold of 0.5 is exceeded by many.
NEW, STORED = RANDOM.normal(0.7, 1, size=(2, 24, 4)).astype(np.float32)
# The old model knows six of the eight classes, and numbers them otherwise.
OLD_CLASS = np.array([1, -1, 0, 3, 2, -1, 5, 4])
OLD = OldModel(class_statistics(STORED, OLD_CLASS[LABELS], 6), OLD_CLASS)
SIDE = OldSide(STORED, LABELS, OLD_CLASS[LABELS], OLD)


def _unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


OLD_PROTOTYPES = _unit(OLD.statistics.center)
NEW_PROTOTYPES = _unit(
  np.stack([_unit(NEW)[label == LABELS].mean(axis=0) for label in range(8)])
)


def _method(name, **options):
  return make_method(name, GivenEmbeddings(), 8, options)


@pytest.mark.parametrize('name', ['odpp', 'ndpp'])
def test_the_loss_is_the_softmax_of_cosines_to_what_is_in_memory(name):
  method = _method(name, temperature=0.5, weight=0.7)
  old = OLD.replace(prepared=method.prepare(SIDE))
  batch = batch_of(NEW, LABELS, STORED)
  variables = method.init(jax.random.key(0), batch, old, PROGRESS)
  memory = variables[MEMORY]
  np.testing.assert_array_equal(memory['prototypes'], old.prepared)
  np.testing.assert_allclose(np.linalg.norm(old.prepared, axis=1), 1, rtol=1e-6)

  moved = method.refresh(memory, SIDE, lambda: 3 * NEW)
  assert jax.tree.map(jnp.shape, moved) == jax.tree.map(jnp.shape, memory)
  assert moved['prototypes'].dtype == np.float32
  assert np.abs(moved['prototypes'] - old.prepared).max() > 1e-3
  outcome = method.apply({**variables, MEMORY: moved}, batch, old, PROGRESS)
  losses = []
  for embedding, label in zip(_unit(NEW), LABELS, strict=True):
    if OLD_CLASS[label] >= 0:
      logits = moved['prototypes'] @ embedding / 0.5
      losses.append(np.log(np.exp(logits).sum()) - logits[OLD_CLASS[label]])
  assert float(outcome.loss) == pytest.approx(
    float(outcome.metrics['classification_loss']) + 0.7 * np.mean(losses),
    rel=1e-5,
  )


def _pushed(with_new):
  """The formula, class by class, with 3 neighbours, η 0.4 and τ 0.2."""
  pushed = []
  for k, prototype in enumerate(OLD_PROTOTYPES):
    around = [other for j, other in enumerate(OLD_PROTOTYPES) if j != k]
    if with_new:
      around += [
        other
        for label, other in enumerate(NEW_PROTOTYPES)
        if OLD_CLASS[label] != k
      ]
    around.sort(key=lambda other: -(other @ prototype))
    powers = [np.exp(other @ prototype / 0.2) for other in around[:3]]
    away = sum(
      power / sum(powers) * (prototype - other)
      for power, other in zip(powers, around[:3], strict=True)
    )
    pushed.append(_unit(prototype + 0.4 * away))
  return pushed


@pytest.mark.parametrize('rows', [4, 256])
def test_neighbors_of_other_classes_push(monkeypatch, rows):
  monkeypatch.setattr(ndpp, '_BLOCK_ROWS', rows)
  method = _method('ndpp', push=0.4, neighbors=3, neighbor_temperature=0.2)
  np.testing.assert_allclose(
    method.prepare(SIDE), _pushed(with_new=False), rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(
    method.refresh({}, SIDE, lambda: 3 * NEW)['prototypes'],
    _pushed(with_new=True),
    rtol=1e-4,
    atol=1e-6,
  )


@pytest.mark.parametrize('name', ['odpp', 'ndpp'])
def test_a_class_without_images_or_others_stays_where_it_is(name):
  method = _method(name)
  prototypes = np.array([[0.0, 0.0], [0.6, 0.8]])
  own = np.array([1, -1])
  others = np.array([[0.6, 0.8], [0.0, 0.0]])
  np.testing.assert_allclose(
    method.move_apart(prototypes, others, own), prototypes, atol=1e-12
  )
  alone = method.move_apart(prototypes[1:], others[:0], own[:0])
  np.testing.assert_allclose(alone, prototypes[1:])


@jax.jit
@jax.grad
def _gradient_of_crowding(moved, others, classes, old_partners, new_partners):
  """Of how much pairs exceed a cosine of 0.5."""
  units = moved / jnp.linalg.norm(moved, axis=1, keepdims=True)
  loss = 0
  for partners, targets in ((old_partners, units), (new_partners, others)):
    beyond = (units[classes] * targets[partners]).sum(axis=1) - 0.5
    paired = partners >= 0
    loss += jnp.where(paired & (beyond > 0), beyond, 0).sum() / paired.sum()
  return loss


def test_offsets_follow_adam_on_what_exceeds_the_threshold():
  # The same draws, then automatic differentiation and Adam of all offsets.
  draws = np.random.default_rng(0)
  offsets, first, second = np.zeros((3, *OLD_PROTOTYPES.shape))
  step = 0
  for _ in range(3):
    order = draws.permutation(6)
    for classes in (order[:3], order[3:]):
      partners = draw_partners(draws, classes, 6, OLD_CLASS)
      gradient = np.asarray(
        _gradient_of_crowding(
          OLD_PROTOTYPES + offsets, NEW_PROTOTYPES, classes, *partners
        )
      )
      rows, slopes = crowding_gradient(
        OLD_PROTOTYPES, offsets, NEW_PROTOTYPES, classes, *partners, 0.5
      )
      np.testing.assert_allclose(slopes, gradient[rows], atol=1e-6)
      assert not np.delete(gradient, rows, axis=0).any()
      step += 1
      first = 0.9 * first + 0.1 * gradient
      second = 0.999 * second + 0.001 * gradient**2
      offsets = offsets - 0.01 * (first / (1 - 0.9**step)) / (
        np.sqrt(second / (1 - 0.999**step)) + 1e-8
      )

  method = _method('odpp', threshold=0.5, learning_rate=0.01, rounds=3, batch=3)
  np.testing.assert_allclose(
    method.refresh({}, SIDE, lambda: 3 * NEW)['prototypes'],
    _unit(OLD_PROTOTYPES + offsets),
    atol=1e-4,
  )


def test_partners_are_of_other_classes_and_all_of_them_are_drawn():
  draws = np.random.default_rng(0)
  classes = np.repeat(np.arange(6), 60)
  old, new = draw_partners(draws, classes, 6, OLD_CLASS)
  assert (old != classes).all()
  paired = new >= 0
  assert (OLD_CLASS[new[paired]] != classes[paired]).all()
  for k in range(6):
    assert set(old[classes == k]) == set(range(6)) - {k}
    assert set(new[classes == k]) == {-1, *np.flatnonzero(k != OLD_CLASS)}


def test_old_prototypes_that_are_too_alike_end_below_the_threshold():
  prototypes = _unit(1 + 0.1 * RANDOM.normal(size=(6, 8)))

  def highest_cosine(these):
    return np.triu(these @ these.T, 1).max()

  assert highest_cosine(prototypes) > 0.95
  moved = _method('odpp', rounds=500).move_apart(
    prototypes, prototypes[:0], np.zeros(0, int)
  )
  assert highest_cosine(moved) < 0.91
  far = _method('odpp').move_apart(np.eye(3), np.eye(3), np.arange(3))
  np.testing.assert_array_equal(far, np.eye(3))


@pytest.mark.parametrize(
  ('name', 'option'), [('odpp', 'batch'), ('ndpp', 'neighbors')]
)
def test_a_number_that_is_none_is_refused(name, option):
  with pytest.raises(InputError, match=rf'{name}\.{option} is 0'):
    _method(name, **{option: 0})
