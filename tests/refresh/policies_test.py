import numpy as np
import pytest

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.refresh.agreement import measure_agreement
from advbct_jax.refresh.curve import measure_curves
from advbct_jax.refresh.known_pairs import know_training_pairs
from advbct_jax.refresh.policies import find_policies, find_policy
from advbct_jax.refresh.policies.one_space import Old
from advbct_jax.refresh.policies.predicted import Predict, PredictInterpolate
from advbct_jax.refresh.policies.rotated import Interpolate
from advbct_jax.refresh.policy import Queries
from tests.made_up_upgrade import make_upgrade, make_vectors

WIDTHS = [(28, 32), (32, 28), (32, 32)]


@pytest.mark.parametrize('widths', WIDTHS)
def test_auto_is_above_a_fixed_rotation_and_never_below_old(widths):
  measured = measure_curves(
    make_upgrade(widths), find_policies(['fixed', 'auto']), seeds=[0]
  )
  fixed, auto = measured['curves']
  assert measured['self'] > measured['old'] + 3
  assert auto['area'] > fixed['area'] + 0.15
  assert auto['worst'] > -0.3


def test_auto_goes_on_with_old_queries_until_there_are_pairs():
  upgrade = make_upgrade(training=0)
  part = find_policy('auto').fit(upgrade.pairs)
  np.testing.assert_array_equal(
    part.queries(upgrade.queries, None), upgrade.queries.old
  )


@pytest.mark.parametrize('name', ['auto_new', 'refit', 'fixed', 'bridge'])
def test_without_pairs_new_queries_alone_are_refused(name):
  pairs = know_training_pairs([], (28, 32), 100)
  with pytest.raises(InputError, match='no thing is known in both spaces'):
    find_policy(name).fit(pairs)


def test_a_prediction_from_a_handful_of_pairs_is_refused():
  old, new, _ = make_vectors(count=19)
  pairs = know_training_pairs([(old, new)], (28, 32), 100)
  with pytest.raises(InputError, match=r'19 things are known .* at least 20'):
    Predict().fit(pairs)


@pytest.mark.parametrize(
  'name', ['best', 'cascade:0', 'cascade:-1', 'cascade:many', 'auto:5', '']
)
def test_an_unknown_policy_is_refused(name):
  with pytest.raises(InputError, match='wanted: '):
    find_policy(name)


@pytest.mark.parametrize(
  'policy',
  [
    Interpolate(old_weight=1.5),
    Interpolate(old_weight=-0.1),
    PredictInterpolate(old_weight=-1),
    PredictInterpolate(old_weight=float('nan')),
    Predict(penalty=0),
  ],
)
def test_a_weight_out_of_range_is_refused(policy):
  with pytest.raises(InputError, match='wanted: a number'):
    policy.fit(make_upgrade().pairs)


def test_a_budget_is_read_with_the_cascades_name():
  assert find_policy('cascade:50').budget == 50
  assert find_policy('cascade').budget == 200


def test_old_queries_alone_agree_less_than_good_predictions():
  old, new, _ = make_vectors()
  pairs = know_training_pairs([(old, new)], (28, 32), 600).add(old, new)
  agreed = measure_agreement([Old(), PredictInterpolate(0.03, 0.25)], pairs)
  assert agreed[0] < agreed[1] <= 1


def test_a_policy_that_knows_the_new_vectors_agrees_wholly():
  _, new, _ = make_vectors(widths=(32, 32))
  new = unit_rows(new - new.mean(axis=0))
  # Where both spaces are one, the best prediction is the vector itself.
  pairs = know_training_pairs([(new, new)], (32, 32), 600)
  agreed = measure_agreement([PredictInterpolate(1e-6, 0.0)], pairs)
  assert agreed[0] > 0.98


def test_needing_the_old_encoder_is_said():
  queries = Queries(np.eye(2, dtype=np.float32))
  with pytest.raises(AssertionError, match='needs the old encoder'):
    queries.needed_old()
