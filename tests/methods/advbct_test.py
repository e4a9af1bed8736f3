import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.embeddings.class_statistics import ClassStatistics
from advbct_jax.errors import InputError
from advbct_jax.methods.advbct import (
  AdvBCT,
  adversarial_loss,
  adversarial_weight,
  boundary_loss,
  discriminator_accuracy,
  elastic_radius,
  reversal_strength,
)
from advbct_jax.methods.advbct_improved import ImprovedAdvBCT
from advbct_jax.methods.method import OldModel, Progress
from advbct_jax.models.discriminator import Discriminator
from advbct_jax.models.encoder import classifier
from tests.methods.given_embeddings import GivenEmbeddings, batch_of

# Three old classes, the first with a single radius. New classes 0 to 2 are old
# 2, 1 and 0; new class 3 was never seen, and its −1 must not be taken for a
# place in an array.
OLD = OldModel(
  ClassStatistics(
    center=np.array([[0.5, 0.5], [0.0, 0.6], [0.8, 0.0]], np.float32),
    radius_max=np.array([0.1, 0.5, 0.2], np.float32),
    radius_min=np.zeros(3, np.float32),
    radius_count=np.array([1, 3, 2]),
    theta_max=np.zeros(3, np.float32),
    theta_count=np.array([1, 3, 2]),
  ),
  old_class=np.array([2, 1, 0, -1]),
)
# With w = 0 a boundary is half open: R = (r + t)/2, here 0.6 and 0.75.
HALF_OPEN = jnp.zeros(4)


def make_advbct(classes, **options):
  return AdvBCT(
    GivenEmbeddings(), classifier(classes), classes, axis_name=None, **options
  )


def tie_of(outcome):
  """The loss but for the classification."""
  return outcome.loss - outcome.metrics['classification_loss']


def elastic_loss(
  embeddings, labels, openness=HALF_OPEN, threshold=1.0, **options
):
  labels = jnp.asarray(labels)
  largest = OLD.statistics.radius_max[OLD.old_class[labels]]
  return boundary_loss(
    jnp.asarray(embeddings, jnp.float32),
    labels,
    elastic_radius(largest, openness[labels], threshold),
    OLD,
    **options,
  )


def test_the_boundary_loss_is_the_mean_excess_of_the_violators():
  loss, metrics = elastic_loss(
    [
      [0, 2],  # (0, 1) to (0.8, 0): 1.280625, 0.680625 beyond 0.6
      [-5, 0],  # (-1, 0) to (0, 0.6): 1.166190, 0.416190 beyond 0.75
      [3, 4],  # (0.6, 0.8) to (0, 0.6): 0.632456, within 0.75
      [0, 1],  # a class with one radius
      [0, 1],  # a class never seen
    ],
    [0, 1, 1, 2, 3],
  )
  assert float(loss) == pytest.approx((0.680625 + 0.416190) / 2, abs=1e-6)
  assert float(metrics['violators']) == pytest.approx(2 / 3)
  assert float(metrics['boundary_radius']) == pytest.approx(
    (0.6 + 0.75 + 0.75) / 3
  )


def test_the_gradient_moves_violators_and_their_boundaries_only():
  def loss(embeddings, openness):
    return elastic_loss(embeddings, [0, 1, 2, 3], openness)[0]

  by_embedding, by_openness = jax.grad(loss, argnums=(0, 1))(
    jnp.array([[0.0, 2.0], [3.0, 4.0], [0.0, 1.0], [0.0, 1.0]]), HALF_OPEN
  )
  # d/df of ‖f̂ − c‖ at f = (0, 2): (f̂ − c)/‖f̂ − c‖ across f̂, over ‖f‖.
  np.testing.assert_allclose(
    by_embedding, [[-0.8 / 1.280625 / 2, 0], [0, 0], [0, 0], [0, 0]], atol=1e-6
  )
  # d/dw of −R: −σ'(0)·(t − r) = −¼·0.8.
  np.testing.assert_allclose(by_openness, [-0.2, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
  ('threshold', 'radii'),
  [
    # r = 0.2: from r at w → −∞ to t at w → ∞.
    (1.0, [0.2, 0.4151531, 0.6, 0.7848469, 1.0]),
    # A threshold below r draws the boundary in.
    (0.1, [0.2, 0.1731059, 0.15, 0.1268941, 0.1]),
  ],
)
def test_a_boundary_opens_from_the_old_radius_to_the_threshold(
  threshold, radii
):
  found = [
    float(
      elastic_loss([[1, 0]], [0], jnp.full(4, w), threshold)[1][
        'boundary_radius'
      ]
    )
    for w in (-100.0, -1.0, 0.0, 1.0, 100.0)
  ]
  np.testing.assert_allclose(found, radii, atol=1e-6)


@pytest.mark.parametrize(
  ('embeddings', 'labels'),
  [
    ([[3, 4], [1, 0]], [1, 0]),  # within
    ([[0, 1], [0, 1]], [2, 3]),  # of classes that take no part
    ([[0, 0], [0, 0]], [2, 3]),  # without direction
  ],
)
def test_without_violators_loss_and_gradients_are_exactly_zero(
  embeddings, labels
):
  (loss, _), gradients = jax.value_and_grad(
    lambda x, w: elastic_loss(x, labels, w), argnums=(0, 1), has_aux=True
  )(jnp.asarray(embeddings, jnp.float32), HALF_OPEN)
  assert float(loss) == 0
  for gradient in gradients:
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_an_embedding_on_its_centre_has_finite_gradients():
  at_centre = OldModel(
    OLD.statistics.replace(center=np.array([[0, 0], [1, 0], [0, 1.0]])),
    OLD.old_class,
  )
  gradient = jax.grad(
    lambda x: boundary_loss(x, jnp.array([1, 0]), jnp.full(2, 0.7), at_centre)[
      0
    ]
  )(jnp.array([[1.0, 0.0], [1.0, 0.0]]))
  # The first sits on its centre, the second is a violator.
  assert np.isfinite(gradient).all()
  assert float(jnp.abs(gradient[1]).max()) > 0


def test_the_adversarial_loss_adds_new_and_old():
  new = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
  old = jnp.log(jnp.array([[0.5, 0.5], [0.2, 0.8]]))
  # −ln of what the right side was given: (½, ¼) for new, (½, 0.8) for old.
  wanted = (0.693147 + 1.386294) / 2 + (0.693147 + 0.223144) / 2
  assert float(adversarial_loss(new, old)) == pytest.approx(wanted, abs=1e-6)


def test_accuracy_counts_both_halves():
  new = jnp.array([[2.0, 1.0], [2.0, 1.0]])  # both told as new
  old = jnp.array([[2.0, 1.0], [1.0, 2.0]])  # one told as old
  assert float(discriminator_accuracy(new, old)) == pytest.approx(0.75)


def test_reversal_strength_rises_from_0_to_almost_1():
  found = [float(reversal_strength(p)) for p in (0, 0.15, 0.5, 1)]
  np.testing.assert_allclose(
    found, [0, 0.6351490, 0.9866143, 0.9999092], atol=1e-6
  )


def test_the_adversarial_weight_falls_from_31_to_2_thirtieths():
  found = [float(adversarial_weight(e, 30)) * 30 for e in (0, 1, 15, 29)]
  np.testing.assert_allclose(found, [31, 30, 16, 2], rtol=1e-6)


@pytest.mark.parametrize(
  ('step', 'strength', 'weight'),
  [(0, 0.0, 31 / 30), (45, 0.6351490, 27 / 30), (299, 0.9999061, 2 / 30)],
)
def test_the_adversary_is_reversed_for_the_encoder_and_direct_for_itself(
  step, strength, weight
):
  random = np.random.default_rng(0)
  new, old = random.normal(size=(2, 8, 2)).astype(np.float32)
  never_seen = np.full(8, 3)
  method = make_advbct(4)
  progress = Progress(jnp.asarray(step), steps=300, steps_per_epoch=10)
  variables = jax.jit(method.init)(
    jax.random.key(0), batch_of(new, never_seen, old), OLD, progress
  )

  def method_loss(params, new, old, progress):
    outcome, _ = method.apply(
      {**variables, 'params': params},
      batch_of(new, never_seen, old),
      OLD,
      progress,
      mutable=['batch_stats'],
    )
    return tie_of(outcome)

  def plain_loss(params, new, old):
    logits, _ = Discriminator().apply(
      {'params': params}, new, old, mutable=['batch_stats']
    )
    return adversarial_loss(*logits)

  params = variables['params']
  found = jax.jit(jax.grad(method_loss, argnums=(0, 1, 2)))(
    params, new, old, progress
  )
  plain = jax.jit(jax.grad(plain_loss, argnums=(0, 1, 2)))(
    params['discriminator'], new, old
  )
  jax.tree.map(
    lambda ours, direct: np.testing.assert_allclose(
      ours, weight * direct, rtol=1e-3, atol=1e-6
    ),
    found[0]['discriminator'],
    plain[0],
  )
  np.testing.assert_allclose(
    found[1], -strength * weight * plain[1], rtol=1e-3, atol=1e-6
  )
  assert float(jnp.abs(plain[1]).max()) > 1e-2
  # What the old encoder said comes in directly.
  np.testing.assert_allclose(found[2], weight * plain[2], rtol=1e-3, atol=1e-6)


def test_boundaries_start_anywhere_between_closed_and_open():
  batch = batch_of(jnp.ones((2, 2)), jnp.array([0, 0]), jnp.ones((2, 2)))
  variables = make_advbct(5000).init(
    jax.random.key(0), batch, OLD, Progress(jnp.asarray(0), 10, 5)
  )
  openness = variables['params']['boundary']
  assert openness.shape == (5000,)
  assert -1 <= float(openness.min()) < -0.99
  assert 0.99 < float(openness.max()) <= 1
  assert abs(float(openness.mean())) < 0.03


def test_the_mean_over_all_eligible_fades_as_violators_grow_few():
  embeddings, labels = [[0, 2], [-5, 0], [3, 4], [0, 1]], [0, 1, 1, 2]
  over_violators, _ = elastic_loss(embeddings, labels)
  over_eligible, _ = elastic_loss(embeddings, labels, over_violators=False)
  # Two of three eligible ones lie outside; the fourth is not eligible.
  assert float(over_eligible) == pytest.approx(float(over_violators) * 2 / 3)


def _apply(batch=None, step=45, **options):
  """The loss of AdvBCT on a made-up batch of class 0, and its metrics."""
  random = np.random.default_rng(0)
  new, old = random.normal(size=(2, 8, 2)).astype(np.float32)
  batch = batch or batch_of(new, np.zeros(8, np.int32), old)
  method = make_advbct(4, **options)
  inputs = (batch, OLD, Progress(jnp.asarray(step), 300, 10))
  variables = method.init(jax.random.key(0), *inputs)
  outcome, _ = method.apply(variables, *inputs, mutable=['batch_stats'])
  return tie_of(outcome), outcome.metrics


@pytest.mark.parametrize(
  ('radius', 'wanted'), [('largest', 0.2), ('smallest', 0.0)]
)
def test_a_fixed_radius_is_that_of_the_old_class_and_nothing_is_learnt(
  radius, wanted
):
  _, metrics = _apply(radius=radius)
  assert float(metrics['boundary_radius']) == pytest.approx(wanted)
  batch = batch_of(jnp.ones((2, 2)), jnp.array([0, 0]), jnp.ones((2, 2)))
  variables = make_advbct(4, radius=radius).init(
    jax.random.key(0), batch, OLD, Progress(jnp.asarray(0), 10, 5)
  )
  assert 'boundary' not in variables['params']


def test_weights_multiply_the_terms():
  _, metrics = _apply()
  boundary, adversarial = (
    float(metrics[f'{name}_loss']) for name in ('boundary', 'adversarial')
  )
  total, _ = _apply(boundary_weight=3.0, adversarial_weight=0.5)
  schedule = 27 / 30  # at step 45 of 300, 10 an epoch
  assert float(total) == pytest.approx(
    3 * boundary + 0.5 * schedule * adversarial, rel=1e-5
  )


def test_a_normalized_input_hides_lengths_from_the_adversary():
  random = np.random.default_rng(0)
  new, old = random.normal(size=(2, 8, 2)).astype(np.float32)
  labels = np.full(8, 3)
  longer = batch_of(new * np.linspace(1, 9, 8)[:, None], labels, 5 * old)
  for kind, sees in (('raw', True), ('normalized', False)):
    losses = [
      float(_apply(batch, discriminator_input=kind)[0])
      for batch in (batch_of(new, labels, old), longer)
    ]
    assert (abs(losses[0] - losses[1]) > 1e-3) == sees, kind


@pytest.mark.parametrize(
  'name', ['radius', 'boundary_mean', 'boundary_center', 'discriminator_input']
)
def test_an_option_that_is_none_is_refused_with_those_there_are(name):
  with pytest.raises(InputError, match=f'config.advbct.{name}.*wanted: one of'):
    make_advbct(4, **{name: 'other'})


def _improved(**options):
  """The improved variant's outcome, and all that went into it."""
  random = np.random.default_rng(1)
  new, old = random.normal(size=(2, 8, 2)).astype(np.float32)
  old[:2] = new[:2]  # within any boundary
  batch = batch_of(new, np.arange(8) % 4, old)
  method = ImprovedAdvBCT(
    GivenEmbeddings(), classifier(4), 4, axis_name=None, **options
  )
  inputs = (batch, OLD, Progress(jnp.asarray(45), 300, 10))
  variables = method.init(jax.random.key(0), *inputs)
  outcome, _ = method.apply(variables, *inputs, mutable=['batch_stats'])
  return outcome, jax.tree.map(np.asarray, variables['params']), batch


@pytest.mark.parametrize('center', ['class', 'image'])
def test_the_improved_one_is_arcface_and_the_boundary_of_eligible_samples(
  center,
):
  outcome, params, batch = _improved(boundary_center=center)

  def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)

  # Scale and margin are its own.
  cosine = unit(batch.images) @ unit(params['classifier']['kernel'].T).T
  own = np.eye(4, dtype=bool)[batch.labels]
  logits = 16 * np.where(own, np.cos(np.arccos(cosine) + 0.1), cosine)
  classification = np.log(np.exp(logits).sum(axis=1)) - logits[own]
  # New classes 0 and 1 are old 2 and 1; old 0 has one radius, 3 was never seen.
  excess = []
  for place in np.flatnonzero(batch.labels < 2):
    old_class = [2, 1][batch.labels[place]]
    largest = OLD.statistics.radius_max[old_class]
    around = {
      'class': OLD.statistics.center[old_class],
      'image': unit(batch.old_embeddings[place]),
    }[center]
    distance = np.linalg.norm(unit(batch.images[place]) - around)
    excess.append(distance - largest)
  assert np.min(excess) < 0 < np.max(excess)
  boundary = np.maximum(excess, 0).mean()

  assert float(outcome.loss) == pytest.approx(
    classification.mean() + 3 * boundary, rel=1e-5
  )
  assert 'discriminator' not in params
  assert 'adversarial_loss' not in outcome.metrics


def test_the_improved_one_can_have_an_adversary():
  outcome, params, _ = _improved(adversarial_weight=1.0)
  assert 'discriminator' in params
  without = float(
    outcome.metrics['classification_loss']
    + 3 * outcome.metrics['boundary_loss']
  )
  assert float(outcome.loss) == pytest.approx(
    without + 27 / 30 * float(outcome.metrics['adversarial_loss']), rel=1e-5
  )


def test_the_improved_one_names_its_own_part_of_the_config():
  with pytest.raises(InputError, match=r'config\.advbct_improved\.radius is'):
    _improved(radius='other')
