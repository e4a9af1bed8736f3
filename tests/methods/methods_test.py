import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.errors import InputError
from advbct_jax.methods import (
  METHODS,
  make_method,
  needs_old_model,
  uses_old_classifier,
)
from advbct_jax.methods.method import OldModel, Progress, Samples

RANDOM = np.random.default_rng(0)
SAMPLES = Samples(
  embeddings=RANDOM.normal(size=(12, 4)).astype(np.float32),
  labels=np.arange(12) % 6,
  old_embeddings=RANDOM.normal(size=(12, 4)).astype(np.float32),
  classifier=RANDOM.normal(size=(4, 6)).astype(np.float32),
)
OLD = OldModel(
  class_statistics(
    RANDOM.normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3, 3
  ),
  old_class=np.array([2, 0, 1, -1, -1, -1]),
)
PROGRESS = Progress(jnp.asarray(7), steps=20, steps_per_epoch=5)


def _apply(name, options, samples=SAMPLES, old=OLD):
  method = make_method(name, classes=6, options=options, axis_name=None)
  variables = method.init(jax.random.key(0), samples, old, PROGRESS)

  def loss_and_metrics(variables, samples):
    return method.apply(
      variables, samples, old, PROGRESS, mutable=['batch_stats']
    )[0]

  return loss_and_metrics, variables


@pytest.mark.parametrize('name', METHODS)
def test_every_method_gives_a_finite_loss_with_finite_gradients(name):
  loss_and_metrics, variables = _apply(name, {})

  def loss(params, embeddings):
    given = SAMPLES.replace(embeddings=embeddings)
    return loss_and_metrics({**variables, 'params': params}, given)

  (value, metrics), gradients = jax.value_and_grad(
    loss, argnums=(0, 1), has_aux=True
  )(variables.get('params', {}), SAMPLES.embeddings)
  assert value.shape == ()
  assert all(metric.shape == () for metric in metrics.values())
  for leaf in jax.tree.leaves((value, metrics, gradients)):
    assert np.isfinite(leaf).all()


def test_advbct_logs_what_its_loss_is_made_of():
  loss_and_metrics, variables = _apply('advbct', {})
  loss, metrics = loss_and_metrics(variables, SAMPLES)
  # Epoch 1 of 4: the adversary weighs (4 − 1 + 1)/4.
  assert float(loss) == pytest.approx(
    float(metrics['boundary_loss'] + metrics['adversarial_loss']), rel=1e-6
  )
  assert set(metrics) == {
    'boundary_loss',
    'adversarial_loss',
    'discriminator_accuracy',
    'violators',
    'boundary_radius',
  }


def test_options_of_a_method_are_those_of_the_config():
  method = make_method(
    'advbct',
    classes=6,
    options={'threshold': 0.4, 'discriminator_norm': 'joint'},
    axis_name='batch',
  )
  assert (method.threshold, method.discriminator_norm) == (0.4, 'joint')
  assert (method.classes, method.axis_name) == (6, 'batch')


@pytest.mark.parametrize(
  ('norm', 'statistics'), [('per_domain', 1), ('joint', 1), ('none', 0)]
)
def test_the_norm_of_the_discriminator_is_an_option(norm, statistics):
  _, variables = _apply('advbct', {'discriminator_norm': norm})
  assert len(variables.get('batch_stats', {})) == statistics


def test_independent_training_has_no_tie_and_learns_nothing_more():
  loss_and_metrics, variables = _apply('independent', {}, old=None)
  assert jax.tree.leaves(variables) == []
  loss, metrics = loss_and_metrics(variables, SAMPLES)
  assert (float(loss), metrics) == (0, {})


def test_all_but_independent_training_need_an_old_model():
  assert {name for name in METHODS if not needs_old_model(name)} == {
    'independent'
  }


def test_bct_alone_uses_the_old_classifier():
  assert {name for name in METHODS if uses_old_classifier(name)} == {'bct'}


@pytest.mark.parametrize(
  'find',
  [needs_old_model, lambda name: make_method(name, 6, {}, axis_name=None)],
)
def test_an_unknown_method_is_refused_with_the_known_ones(find):
  with pytest.raises(InputError) as refusal:
    find('advbtc')
  assert str(refusal.value) == (
    f"config.method is 'advbtc'; wanted: one of {', '.join(METHODS)}."
  )
