import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.refresh.known_pairs import cluster
from advbct_jax.refresh.orders import ORDERS, find_order
from tests.made_up_upgrade import make_upgrade


@pytest.fixture(scope='module')
def upgrade():
  return make_upgrade()


def arrange(upgrade, name, seed=0):
  return find_order(name).arrange(
    upgrade.old, upgrade.pairs, upgrade.queries, seed
  )


@pytest.mark.parametrize('name', ORDERS)
def test_an_order_has_each_thing_once(upgrade, name):
  rows = arrange(upgrade, name)
  np.testing.assert_array_equal(np.sort(rows), np.arange(len(upgrade.old)))


@pytest.mark.parametrize('name', [name for name in ORDERS if name != 'asked'])
def test_a_seed_changes_what_is_called_random(upgrade, name):
  same = (arrange(upgrade, name, 0) == arrange(upgrade, name, 1)).all()
  assert same != ORDERS[name].random


def test_coverage_begins_with_one_thing_of_each_cluster(upgrade):
  count = int(np.sqrt(len(upgrade.old)))
  nearest = np.argmax(upgrade.old @ cluster(upgrade.old, count).T, axis=1)
  first = nearest[arrange(upgrade, 'coverage')[: len(np.unique(nearest))]]
  assert len(np.unique(first)) == len(np.unique(nearest))


def test_asked_begins_with_what_old_queries_find(upgrade):
  scores = upgrade.queries.old @ upgrade.old.T
  found = np.argsort(-scores, axis=1)[:, :100]
  hits = np.zeros(len(upgrade.old))
  for row in found:
    hits[row] += 1 / np.log2(2 + np.arange(100))
  ordered = hits[arrange(upgrade, 'asked')]
  assert (np.diff(ordered) < 1e-6).all()


def test_uncertain_begins_far_from_what_is_known(upgrade):
  leverage = []
  known = upgrade.pairs.training.old - upgrade.pairs.training.old.mean(axis=0)
  covariance = known.T @ known / len(known)
  ridge = 0.1 * np.trace(covariance) / len(covariance)
  inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
  centred = upgrade.old - upgrade.pairs.training.old.mean(axis=0)
  leverage = np.einsum('nd,de,ne->n', centred, inverse, centred)
  ordered = leverage[arrange(upgrade, 'uncertain')]
  assert (np.diff(ordered) < 1e-4).all()


def test_an_unknown_order_is_refused():
  with pytest.raises(InputError, match="'best' was asked for; wanted: one of"):
    find_order('best')
