"""Gradients that oppose each other, looked at one by one in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.methods.conflicts import (
  project_conflicts,
  share,
  weigh_by_agreement,
)

GRADIENTS = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
ORDER = np.array([2, 0, 3, 1])


def project_group(gradients, going_on):
  """[L, n] of one group, by the loops that the papers have."""
  projected = []
  for number, own in enumerate(gradients):
    left = own
    for place in ORDER:
      other = gradients[place]
      start = left if going_on else own
      if place != number and start @ other < 0:
        left = start - (start @ other) / (other @ other) * other
    projected.append(left)
  return np.array(projected)


@pytest.mark.parametrize('going_on', [False, True])
def test_each_group_loses_what_opposes_another(going_on):
  found = project_conflicts(GRADIENTS, ORDER, going_on=going_on)
  wanted = [
    project_group(np.float64(GRADIENTS[:, :, group]), going_on)
    for group in range(5)
  ]
  np.testing.assert_allclose(found, np.stack(wanted, axis=2), rtol=1e-4)


def test_the_two_ways_differ_where_there_are_several_conflicts():
  began, went_on = (
    project_conflicts(GRADIENTS, ORDER, going_on=going_on)
    for going_on in (False, True)
  )
  assert np.abs(began - went_on).max() > 0.1


def test_what_opposes_nothing_stays_as_it_is():
  alike = np.abs(GRADIENTS)
  found = project_conflicts(alike, ORDER, going_on=True)
  np.testing.assert_array_equal(found, alike)
  np.testing.assert_allclose(
    weigh_by_agreement(found, alike, 0.5), alike.sum(axis=0), rtol=1e-5
  )


def test_what_lost_more_counts_less():
  # Of the first half of its squared length is left: its cosine is 1/√2.
  gradients = np.array([[1.0, 1], [3, 0]])
  projected = np.array([[0.0, 1], [3, 0]])
  share_of_first = (1 / np.sqrt(2) + 1) / 2
  found = weigh_by_agreement(projected, gradients, 1.0)
  np.testing.assert_allclose(
    found,
    2 * np.array([3, share_of_first]) / (1 + share_of_first),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    weigh_by_agreement(projected, gradients, 0.0), [3, 1], rtol=1e-6
  )


def test_gradients_of_shared_parameters_meet_in_the_combination():
  def loss(x, draw):
    one, other = share(
      {'x': x},
      2,
      lambda stacked, draw: jax.tree.map(lambda g: g[draw], stacked),
      draw,
    )
    return (3 * one['x'] + 5 * other['x']).sum()

  for draw, wanted in ((0, 3), (1, 5)):
    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.ones(2), draw)
    assert float(value) == 16
    np.testing.assert_array_equal(gradient, [wanted, wanted])
