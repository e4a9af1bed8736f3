from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.models.discriminator import NORMS, Discriminator
from tests.products import products

RANDOM = np.random.default_rng(0)
NEW = RANDOM.normal(1.0, 2.0, (16, 4)).astype(np.float32)
OLD = RANDOM.normal(-0.5, 1.0, (16, 4)).astype(np.float32)


def _discriminator(norm, hidden=100, kernel=None):
  """A discriminator and its variables, with a given first kernel."""
  module = Discriminator(norm, hidden)
  variables = module.init(jax.random.key(0), NEW, OLD)
  if kernel is not None:
    variables['params']['fc1']['kernel'] = jnp.asarray(kernel)
  return module, variables


def _logits(norm, new, old, **layers):
  module, variables = _discriminator(norm, **layers)
  return module.apply(variables, new, old, mutable=['batch_stats'])[0]


def _change(norm, moved_old, **layers):
  """By how much moving the old embeddings changes any logit."""
  before = _logits(norm, NEW, OLD, **layers)
  after = _logits(norm, NEW, moved_old, **layers)
  return max(
    float(jnp.abs(a - b).max()) for a, b in zip(after, before, strict=True)
  )


def test_per_domain_is_blind_to_shift_and_scale_along_each_direction():
  # With the unit matrix for a kernel the directions are the dimensions. What
  # BatchNorm's epsilon of 1e-5 leaves of the differences is rounding.
  scale = np.array([0.5, 2.0, 10.0, 1.0], np.float32)
  shift = np.array([-3.0, 0.0, 5.0, 100.0], np.float32)
  layers = {'hidden': 4, 'kernel': np.eye(4, dtype=np.float32)}
  assert _change('per_domain', OLD * scale + shift, **layers) < 1e-3
  assert _change('joint', OLD * scale + shift, **layers) > 0.1
  assert _change('none', OLD * scale + shift, **layers) > 0.1


def test_per_domain_is_blind_to_a_common_shift_and_scale_whatever_its_kernel():
  moved = 3 * OLD + np.array([-3.0, 0.0, 5.0, 100.0], np.float32)
  assert _change('per_domain', moved) < 1e-3
  assert _change('joint', moved) > 0.1


def test_per_domain_sees_a_difference_in_shape():
  assert _change('per_domain', np.abs(OLD)) > 0.1


def test_only_joint_lets_the_other_half_move_the_logits_of_the_new_one():
  moved = OLD + 1
  for norm, moves in {
    'per_domain': False,
    'joint': True,
    'none': False,
  }.items():
    new, _ = _logits(norm, NEW, OLD)
    beside_moved, _ = _logits(norm, NEW, moved)
    assert np.allclose(new, beside_moved) != moves, norm


@pytest.mark.parametrize(
  ('norm', 'mean', 'variance'),
  [
    # The running average keeps 0.9, first with the new half, then the old one.
    (
      'per_domain',
      0.09 * NEW.mean(0) + 0.1 * OLD.mean(0),
      0.81 + 0.09 * NEW.var(0) + 0.1 * OLD.var(0),
    ),
    (
      'joint',
      0.1 * np.concatenate([NEW, OLD]).mean(0),
      0.9 + 0.1 * np.concatenate([NEW, OLD]).var(0),
    ),
  ],
)
def test_running_statistics_take_in_new_then_old(norm, mean, variance):
  module, variables = _discriminator(norm, hidden=4, kernel=np.eye(4))
  _, updated = module.apply(variables, NEW, OLD, mutable=['batch_stats'])
  found = updated['batch_stats']['bn1']
  np.testing.assert_allclose(found['mean'], mean, atol=1e-5)
  np.testing.assert_allclose(found['var'], variance, rtol=1e-5)


def test_without_norm_it_is_linear_relu_linear():
  module, variables = _discriminator('none')
  assert set(variables) == {'params'}
  first, second = (variables['params'][name] for name in ('fc1', 'fc2'))
  told = module.apply(variables, NEW, OLD)
  for half, logits in zip((NEW, OLD), told, strict=True):
    hidden = np.maximum(half @ first['kernel'] + first['bias'], 0)
    np.testing.assert_allclose(
      logits, hidden @ second['kernel'] + second['bias'], atol=1e-5
    )


def test_an_unknown_norm_is_refused_with_the_known_ones():
  with pytest.raises(InputError, match=r"'both'.*per_domain, joint, none"):
    _discriminator('both')


@pytest.mark.parametrize('norm', NORMS)
def test_the_adversary_multiplies_in_full_float32(norm):
  module, variables = _discriminator(norm)
  found = products(
    partial(module.apply, mutable=['batch_stats']), variables, NEW, OLD
  )
  assert len(found) == 4
  assert set(found) == {('dot_general', 'float32', True)}
