"""MixBCT, derived again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.errors import InputError
from advbct_jax.methods import make_method
from advbct_jax.methods.method import OldModel, OldSide, Progress
from advbct_jax.methods.mixbct import credible_embeddings
from tests.methods.given_embeddings import GivenEmbeddings, batch_of

PROGRESS = Progress(jnp.asarray(7), steps=20, steps_per_epoch=5)
RANDOM = np.random.default_rng(1)
LABELS = np.arange(20) % 4
NEW, STORED = RANDOM.normal(size=(2, 20, 3)).astype(np.float32)
OLD = OldModel(class_statistics(STORED, LABELS, 4), np.arange(4))
SIDE = OldSide(STORED, LABELS, LABELS, OLD)


def _apply(batch, **options):
  method = make_method('mixbct', GivenEmbeddings(), 4, options)
  old = OLD.replace(prepared=method.prepare(SIDE))
  variables = method.init(jax.random.key(0), batch, old, PROGRESS)
  outcome = method.apply(variables, batch, old, PROGRESS)
  return outcome, variables['params']['classifier']['kernel'], method


def _unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def _arcface(embeddings, kernel, scale, margin):
  """The mean ArcFace loss, spelled out."""
  cosine = _unit(embeddings) @ _unit(kernel.T).T
  own = np.eye(4, dtype=bool)[LABELS]
  logits = scale * np.where(own, np.cos(np.arccos(cosine) + margin), cosine)
  shifted = logits - logits.max(axis=1, keepdims=True)
  log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
  return -log_softmax[own].mean()


def _chosen(batch, credible, ratio):
  """Which samples the key draws: the lowest numbers of the credible ones."""
  draws = np.array(
    [float(jax.random.uniform(key)) for key in batch.sample_keys()]
  )
  order = np.argsort(np.where(credible, draws, np.inf), kind='stable')
  chosen = np.zeros(len(draws), bool)
  chosen[order[: int(ratio * len(draws))]] = True
  return chosen & credible


def test_the_loss_is_arcface_of_the_mixed_batch():
  batch = batch_of(NEW, LABELS, STORED)
  outcome, kernel, method = _apply(
    batch, ratio=0.4, margin_scale=8.0, margin_size=0.3
  )
  credible = method.prepare(SIDE)
  chosen = _chosen(batch, credible, 0.4)
  assert chosen.sum() == 8
  mixed = np.where(chosen[:, None], _unit(STORED), NEW)

  wanted = _arcface(mixed, np.asarray(kernel), 8.0, 0.3)
  assert float(outcome.loss) == pytest.approx(wanted, rel=1e-5)
  assert float(outcome.metrics['replaced']) == pytest.approx(0.4)
  np.testing.assert_array_equal(outcome.embeddings, NEW)


def test_no_gradient_comes_to_what_was_replaced():
  batch = batch_of(NEW, LABELS, STORED)

  def loss(embeddings):
    return _apply(batch.replace(images=embeddings), ratio=0.4)[0].loss

  gradients = jax.grad(loss)(jnp.asarray(NEW))
  credible = credible_embeddings(STORED, LABELS, 0.9)
  replaced = _chosen(batch, credible, 0.4)
  assert (np.abs(gradients).max(axis=1) == 0).tolist() == replaced.tolist()


def test_other_steps_draw_others_and_the_same_step_the_same():
  batch = batch_of(NEW, LABELS, STORED)
  other = batch.replace(key=jax.random.key(4))
  losses = [float(_apply(one)[0].loss) for one in (batch, batch, other)]
  assert losses[0] == losses[1] != losses[2]


def test_of_each_class_those_nearest_to_its_mean_are_credible():
  found = credible_embeddings(STORED, LABELS, 0.6)
  for label in range(4):
    members = np.flatnonzero(label == LABELS)
    unit = _unit(STORED[members])
    distances = np.linalg.norm(unit - unit.mean(axis=0), axis=1)
    wanted = members[np.argsort(distances)[:3]]  # ⌈0.6·5⌉
    assert set(np.flatnonzero(found & (label == LABELS))) == set(wanted)


def test_what_the_new_encoder_is_not_trained_on_is_not_credible():
  labels = np.where(np.arange(len(LABELS)) % 5 == 1, -1, LABELS)
  found = credible_embeddings(STORED, labels, 0.6)
  rows = np.flatnonzero(labels >= 0)
  wanted = credible_embeddings(STORED[rows], labels[rows], 0.6)
  np.testing.assert_array_equal(found[rows], wanted)
  assert wanted.any()
  assert not found[labels < 0].any()


def test_nothing_is_replaced_where_nothing_is_credible():
  outcome, _, _ = _apply(batch_of(NEW, LABELS, STORED), credible=0.0)
  assert float(outcome.metrics['replaced']) == 0


@pytest.mark.parametrize(
  ('option', 'message'),
  [
    ({'margin': 'softmax'}, "margin is 'softmax'; wanted: one of arcface, c"),
    ({'ratio': 1.5}, 'ratio is 1.5; wanted: a share from 0 to 1'),
    ({'credible': -0.1}, 'credible is -0.1; wanted: a share from 0 to 1'),
  ],
)
def test_an_option_that_is_none_is_refused(option, message):
  with pytest.raises(InputError, match=f'config.mixbct.{message}'):
    make_method('mixbct', GivenEmbeddings(), 4, option)
