import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import class_statistics
from advbct_jax.errors import InputError
from advbct_jax.methods import (
  METHODS,
  find_method,
  make_method,
  method_options,
)
from advbct_jax.methods.method import MEMORY, OldModel, OldSide, Progress
from configs import base
from tests.methods.given_embeddings import (
  GivenEmbeddings,
  batch_of,
  encoder_for,
)
from tests.products import products

RANDOM = np.random.default_rng(0)
WIDTH = 7
NEW, STORED, OTHERS, INDEPENDENT = RANDOM.normal(size=(4, 12, WIDTH)).astype(
  np.float32
)
BATCH = batch_of(NEW, np.arange(12) % 6, STORED, independent=INDEPENDENT)
OLD = OldModel(
  class_statistics(OTHERS, np.arange(12) % 3, 3),
  old_class=np.array([2, 0, 1, -1, -1, -1]),
)
SIDE = OldSide(
  BATCH.old_embeddings, BATCH.labels, OLD.old_class[BATCH.labels], OLD
)
PROGRESS = Progress(jnp.asarray(7), steps=20, steps_per_epoch=5)
# Their classifier is all of the embedding, or there is no other encoder.
WITHOUT_FREE = ('d_simplex', 'hoc', 'prunnet')
# What so narrow embeddings need where the defaults are for wide ones.
OPTIONS = {
  'bt2': {'extra_dimensions': 0},
  'd_simplex': {'vertices': WIDTH + 1},
  'hoc': {'vertices': WIDTH + 1},
}


def _apply(name, options, batch=BATCH, old=OLD):
  method = make_method(name, encoder_for(name), 6, options)
  if old is not None:
    old = old.replace(prepared=method.prepare(SIDE))
  variables = jax.jit(method.init)(jax.random.key(0), batch, old, PROGRESS)

  def outcome_of(variables, batch):
    return jax.jit(
      lambda *inputs: method.apply(*inputs, mutable=['batch_stats', MEMORY])[0]
    )(variables, batch, old, PROGRESS)

  return outcome_of, variables


@pytest.mark.parametrize('name', METHODS)
def test_every_method_gives_a_finite_loss_with_finite_gradients(name):
  outcome_of, variables = _apply(name, OPTIONS.get(name, {}))

  def loss(params, embeddings):
    given = BATCH.replace(images=embeddings)
    outcome = outcome_of({**variables, 'params': params}, given)
    return outcome.loss, outcome

  (value, outcome), gradients = jax.value_and_grad(
    loss, argnums=(0, 1), has_aux=True
  )(variables.get('params', {}), BATCH.images)
  assert value.shape == ()
  assert outcome.embeddings.shape == BATCH.images.shape
  assert {'classification_loss', 'accuracy'} <= set(outcome.metrics)
  assert all(metric.shape == () for metric in outcome.metrics.values())
  for leaf in jax.tree.leaves((value, outcome.metrics, gradients)):
    assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
  'name', [name for name in METHODS if name not in WITHOUT_FREE]
)
def test_free_components_are_tied_to_nothing(name):
  # A wider encoder's last component may be anything, as far as the tie goes.
  options = {'extra_dimensions': 1} if name == 'bt2' else {}
  method = make_method(
    name, GivenEmbeddings(), 6, options, compatible_dimension=WIDTH
  )
  wider = np.pad(BATCH.images, ((0, 0), (0, 1)), constant_values=0.5)
  old = OLD.replace(prepared=method.prepare(SIDE))
  variables = jax.jit(method.init)(
    jax.random.key(0), BATCH.replace(images=wider), old, PROGRESS
  )
  # Without weights the classification says nothing of it either.
  params = dict(variables['params'])
  if 'classifier' in params:
    kernel = params['classifier']['kernel'].at[WIDTH:].set(0)
    params['classifier'] = {'kernel': kernel}

  @jax.jit
  def tie(free):
    images = jnp.asarray(wider).at[:, WIDTH].set(free)
    outcome, _ = method.apply(
      {**variables, 'params': params},
      BATCH.replace(images=images),
      old,
      PROGRESS,
      mutable=['batch_stats', MEMORY],
    )
    return outcome.loss - outcome.metrics['classification_loss']

  # Cosines to a classifier, or to an independent embedding, see lengths.
  if name not in ('bt2', 'nccl', 'mixbct'):
    assert float(tie(0.5)) == pytest.approx(float(tie(9.0)), rel=1e-5)
  assert np.isfinite(float(tie(9.0)))


def test_advbct_logs_what_its_loss_is_made_of():
  outcome_of, variables = _apply('advbct', {})
  outcome = outcome_of(variables, BATCH)
  metrics = outcome.metrics
  # Epoch 1 of 4: the adversary weighs (4 − 1 + 1)/4.
  assert float(outcome.loss) == pytest.approx(
    sum(
      float(metrics[f'{name}_loss'])
      for name in ('classification', 'boundary', 'adversarial')
    ),
    rel=1e-6,
  )
  assert set(metrics) == {
    'accuracy',
    'classification_loss',
    'boundary_loss',
    'adversarial_loss',
    'discriminator_accuracy',
    'violators',
    'boundary_radius',
  }


def test_options_of_a_method_are_those_of_its_class_and_of_the_config():
  method = make_method(
    'advbct',
    GivenEmbeddings(),
    classes=6,
    options={'threshold': 0.4, 'discriminator_norm': 'joint'},
    axis_name='batch',
  )
  assert (method.threshold, method.discriminator_norm) == (0.4, 'joint')
  assert (method.classes, method.axis_name) == (6, 'batch')
  config = base.get_config()
  for name in METHODS:
    assert config[name].to_dict() == method_options(name)
  assert config.hot_refresh.new_negatives
  assert not config.contrastive.new_negatives


@pytest.mark.parametrize(
  ('norm', 'statistics'), [('per_domain', 1), ('joint', 1), ('none', 0)]
)
def test_the_norm_of_the_discriminator_is_an_option(norm, statistics):
  _, variables = _apply('advbct', {'discriminator_norm': norm})
  assert len(variables.get('batch_stats', {})) == statistics


def test_independent_training_has_no_tie_and_learns_nothing_more():
  outcome_of, variables = _apply('independent', {}, old=None)
  assert set(variables['params']) == {'classifier'}
  outcome = outcome_of(variables, BATCH)
  assert float(outcome.loss) == float(outcome.metrics['classification_loss'])
  assert set(outcome.metrics) == {'classification_loss', 'accuracy'}


def test_few_methods_need_no_old_model():
  assert {
    name for name, method in METHODS.items() if not method.needs_old_model
  } == {'independent', 'd_simplex', 'prunnet'}


def test_each_method_says_how_it_is_written_and_coloured():
  assert len({method.label for method in METHODS.values()}) == len(METHODS)
  assert len({method.color for method in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize(
  'find',
  [find_method, lambda name: make_method(name, GivenEmbeddings(), 6, {})],
)
def test_an_unknown_method_is_refused_with_the_known_ones(find):
  with pytest.raises(InputError) as refusal:
    find('advbtc')
  assert str(refusal.value) == (
    f"config.method is 'advbtc'; wanted: one of {', '.join(METHODS)}."
  )


# The vertices' part of a loss has no product.
@pytest.mark.parametrize(
  'name', [name for name in METHODS if name != 'd_simplex']
)
def test_every_product_asks_for_the_highest_precision(name):
  method = make_method(name, encoder_for(name), 6, OPTIONS.get(name, {}))
  old = OLD.replace(prepared=method.prepare(SIDE), classifier=np.eye(3, WIDTH))
  variables = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(method.init, jax.random.key(0), BATCH, old, PROGRESS),
  )

  def loss(params, embeddings):
    outcome, _ = method.apply(
      {**variables, 'params': params},
      BATCH.replace(images=embeddings),
      old,
      PROGRESS,
      mutable=['batch_stats', MEMORY],
    )
    return outcome.loss

  found = products(
    jax.grad(loss, argnums=(0, 1)), variables.get('params', {}), BATCH.images
  )
  assert found
  assert all(highest for _, _, highest in found)
