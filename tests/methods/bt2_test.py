"""BT², derived again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.errors import InputError
from advbct_jax.methods import bt2, make_method
from advbct_jax.methods.method import OldModel, OldSide, Progress
from tests.methods.given_embeddings import GivenEmbeddings, batch_of

PROGRESS = Progress(jnp.asarray(7), steps=20, steps_per_epoch=5)
RANDOM = np.random.default_rng(1)
# Three classes, the last of which the old model never saw.
LABELS, OLD_WIDTH, EXTRA, OWN = np.arange(9) % 3, 4, 2, 5
NEW = RANDOM.normal(size=(9, OWN + EXTRA)).astype(np.float32)
STORED = RANDOM.normal(size=(9, OLD_WIDTH)).astype(np.float32)
INDEPENDENT = RANDOM.normal(size=(9, OWN)).astype(np.float32)
OLD_CLASS = np.array([1, 0, -1])
OLD = OldModel(class_statistics(STORED, OLD_CLASS[LABELS], 2), OLD_CLASS)
SIDE = OldSide(STORED, LABELS, OLD_CLASS[LABELS], OLD)
BATCH = batch_of(NEW, LABELS, STORED, independent=INDEPENDENT)
WEIGHTS = {'pseudo_weight': 2.0, 'old_weight': 3.0, 'independent_weight': 7.0}


def _unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def _cross_entropy(logits):
  log_sum = np.log(np.exp(logits).sum(axis=1))
  return (log_sum - logits[np.arange(9), LABELS]).mean()


def _make(**options):
  options = {'extra_dimensions': EXTRA} | options
  return make_method(
    'bt2', GivenEmbeddings(), 3, options, compatible_dimension=OLD_WIDTH
  )


def _turned():
  """The method, variables with turns that do something, and the old model."""
  method = _make(**WEIGHTS)
  old = OLD.replace(prepared=method.prepare(SIDE))
  params = dict(method.init(jax.random.key(0), BATCH, old, PROGRESS)['params'])
  for name in ('old_turn', 'independent_turn'):
    assert not params[name].any()
    params[name] = RANDOM.normal(size=params[name].shape).astype(np.float32)
  return method, {'params': params}, old


def _turn(weights):
  return linalg.expm(np.float64(weights) - np.float64(weights).T)


def test_the_loss_is_that_of_what_the_turns_were_made_of():
  method, variables, old = _turned()
  params = variables['params']
  outcome = method.apply(variables, BATCH, old, PROGRESS)

  q, p = _turn(params['old_turn']), _turn(params['independent_turn'])
  for turn in (q, p):
    np.testing.assert_allclose(turn @ turn.T, np.eye(len(turn)), atol=1e-6)
  # e is built of z, and z of y: go back, row by row.
  restored = []
  for e in np.float64(NEW):
    z = np.concatenate([np.linalg.solve(q, e[:OLD_WIDTH]), e[OLD_WIDTH:]])
    restored.append(np.linalg.solve(p, z[EXTRA:]))
  restored, old_part = _unit(np.array(restored)), _unit(NEW[:, :OLD_WIDTH])

  unit = _unit(STORED)
  pseudo = np.stack(
    [unit[number == LABELS].mean(axis=0) for number in range(3)]
  )
  wanted = {
    'classification_loss': _cross_entropy(
      restored @ params['restored_classifier']['kernel']
    ),
    'pseudo_loss': _cross_entropy(old_part @ pseudo.T),
    'old_distance': (1 - (old_part * unit).sum(axis=1)).mean(),
    'independent_distance': (
      1 - (restored * _unit(INDEPENDENT)).sum(axis=1)
    ).mean(),
  }
  for name, value in wanted.items():
    assert float(outcome.metrics[name]) == pytest.approx(
      float(value), rel=1e-4
    ), name
  total = np.dot([1, 2, 3, 7], [float(value) for value in wanted.values()])
  assert float(outcome.loss) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize('size', [0, 1e-3, 0.1, 1, 10])
def test_a_turn_is_the_exponential_and_orthogonal_at_any_size(size):
  weights = (size * np.random.default_rng(2).normal(size=(7, 7))).astype('f4')
  probe = np.random.default_rng(3).normal(size=(7, 7))

  def measure(weights):
    return (bt2._exponential(weights - weights.T) * probe).sum()

  turn = np.float64(bt2._exponential(weights - weights.T))
  gradient = jax.grad(measure)(weights)

  np.testing.assert_allclose(turn, _turn(weights), atol=5e-6)
  np.testing.assert_allclose(turn @ turn.T, np.eye(7), atol=1e-6 * (1 + size))
  # Along one direction, by the blocks of a larger exponential.
  change = np.random.default_rng(4).normal(size=(7, 7))
  skew, step = (np.float64(one) - one.T for one in (weights, change))
  moved = linalg.expm(np.block([[skew, step], [0 * skew, skew]]))[:7, 7:]
  assert float((gradient * change).sum()) == pytest.approx(
    (moved * probe).sum(), rel=1e-4, abs=1e-4
  )


def test_a_turn_that_has_diverged_is_no_endless_loop():
  for size in (1e30, np.inf, np.nan):
    skew = jnp.array([[0, size], [-size, 0]])
    bt2._exponential(skew).block_until_ready()


def test_embeddings_made_by_the_turns_are_at_no_distance():
  method, variables, old = _turned()
  q, p = (
    _turn(variables['params'][f'{n}_turn']) for n in ('old', 'independent')
  )
  z = np.concatenate([np.ones((9, EXTRA)), INDEPENDENT @ p.T], axis=1)
  made = np.concatenate([z[:, :OLD_WIDTH] @ q.T, z[:, OLD_WIDTH:]], axis=1)
  batch = BATCH.replace(images=made.astype(np.float32))
  metrics = method.apply(variables, batch, old, PROGRESS).metrics
  assert float(metrics['independent_distance']) == pytest.approx(0, abs=1e-5)


def test_each_turn_is_learnt():
  method, variables, old = _turned()
  gradients = jax.grad(
    lambda params: method.apply({'params': params}, BATCH, old, PROGRESS).loss
  )(variables['params'])
  assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(gradients))


def test_another_width_than_that_of_the_independent_encoder_is_refused():
  with pytest.raises(InputError, match='wanted: a dimension of 8, with'):
    _make(extra_dimensions=3).init(jax.random.key(0), BATCH, OLD, PROGRESS)
