import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.models.encoder import make_encoder
from advbct_jax.models.subnetworks import (
  draw_scores,
  prune,
  prune_encoder,
  take_kernels,
  thresholds,
)

RANDOM = np.random.default_rng(0)
CAPACITIES = (20, 40, 60, 80, 100)


@pytest.fixture(scope='module')
def params():
  encoder = make_encoder('features_mlp', dimension=4, dtype='float32')
  return encoder.init(jax.random.key(0), np.ones((2, 6)), train=False)['params']


def test_kernels_are_those_of_the_backbone_alone(params):
  assert set(take_kernels(params)) == {
    ('backbone', 'fc1', 'kernel'),
    ('backbone', 'fc2', 'kernel'),
  }


def test_scores_are_drawn_within_the_root_of_the_inputs(params):
  kernels = {('backbone', 'kernel'): np.zeros((3, 3, 8, 50))}
  scores = draw_scores(jax.random.key(0), kernels)['backbone']['kernel']
  bound = 1 / np.sqrt(3 * 3 * 8)
  assert 0.98 * bound < np.abs(scores).max() <= bound
  assert np.std(scores) == pytest.approx(bound / np.sqrt(3), rel=0.05)


@pytest.mark.parametrize('count', [1, 7, 100, 1001])
def test_thresholds_are_the_published_percentiles(count):
  scores = RANDOM.normal(size=count).astype(np.float32)
  found = thresholds(scores, CAPACITIES)
  for capacity, threshold in zip(CAPACITIES, found, strict=True):
    place = 1 + round((100 - capacity) / 100 * (count - 1))
    assert float(threshold) == np.sort(np.abs(scores))[place - 1]


def test_a_smaller_subnetwork_is_part_of_each_larger_one():
  scores = RANDOM.normal(size=(30, 20)).astype(np.float32)
  kept = [
    np.asarray(prune(np.ones((30, 20)), scores, threshold), bool)
    for threshold in thresholds(scores, CAPACITIES)
  ]
  for smaller, larger in itertools.pairwise(kept):
    assert not (smaller & ~larger).any()
  np.testing.assert_allclose(
    [mask.mean() for mask in kept], np.array(CAPACITIES) / 100, atol=2e-3
  )


def test_the_gradient_goes_straight_through_to_what_is_kept():
  kernel, scores, slope = RANDOM.normal(size=(3, 50)).astype(np.float32)
  threshold = thresholds(scores, [40])[0]
  of_kernel, of_scores = jax.grad(
    lambda *given: (slope * prune(*given, threshold)).sum(), argnums=(0, 1)
  )(jnp.asarray(kernel), jnp.asarray(scores))
  kept = np.abs(scores) >= threshold
  assert 0 < kept.sum() < 50
  np.testing.assert_allclose(of_kernel, slope * kept)
  np.testing.assert_allclose(
    of_scores, slope * kernel * np.sign(scores) * kept, rtol=1e-6
  )


def test_a_pruned_encoder_has_all_that_is_no_kernel_of_the_backbone(params):
  params = jax.tree.map(jnp.ones_like, params)
  scores = draw_scores(jax.random.key(0), take_kernels(params))
  pruned = prune_encoder(params, scores, 20)
  assert np.mean(pruned['backbone']['fc1']['kernel']) == pytest.approx(
    0.2, abs=0.03
  )
  assert np.all(pruned['backbone']['fc1']['bias'] == 1)
  assert np.all(pruned['projection']['kernel'] == 1)
