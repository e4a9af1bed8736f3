import numpy as np
import pytest

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.refresh.agreement import measure_agreement, score_each
from advbct_jax.refresh.curve import measure_curves
from advbct_jax.refresh.known_pairs import know_training_pairs
from advbct_jax.refresh.policies import (
  automatic,
  find_policies,
  find_policy,
  label_policy,
  predicted,
)
from advbct_jax.refresh.policies.one_space import Old
from advbct_jax.refresh.policies.predicted import (
  Predict,
  PredictInterpolate,
  score_predictions,
)
from advbct_jax.refresh.policies.rotated import Interpolate, InterpolateBy
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
  'name',
  [
    'best',
    'cascade:0',
    'cascade_new:-1',
    'cascade:many',
    'cascade:50:2',
    'cascade:',
    'auto:5',
    '',
  ],
)
def test_an_unknown_policy_is_refused(name):
  with pytest.raises(InputError, match='wanted: '):
    find_policy(name)


@pytest.mark.parametrize(
  'policy',
  [
    Interpolate(old_weight=1.5),
    Interpolate(old_weight=-0.1),
    InterpolateBy(old_weight=1.1),
    PredictInterpolate(old_weight=-1),
    PredictInterpolate(old_weight=float('nan')),
    Predict(penalty=0),
  ],
)
def test_a_weight_out_of_range_is_refused(policy):
  with pytest.raises(InputError, match='wanted: '):
    policy.fit(make_upgrade().pairs)


def test_options_are_read_with_the_name():
  assert find_policy('cascade:50').budget == 50
  assert find_policy('cascade').budget == 200
  wanted = PredictInterpolate(penalty=0.3, old_weight=0.25)
  assert find_policy('predict_interpolate:0.3:0.25') == wanted
  assert find_policy('predict_interpolate:0.3').old_weight == 0.5


def test_labels_say_what_is_set():
  labels = [label_policy(find_policy(n)) for n in ('cascade', 'auto', 'old')]
  assert labels == ['cascade, 200', 'auto, both encoders', 'old']
  assert label_policy(find_policy('interpolate:0.3')) == 'interpolated, 0.3'


def test_old_queries_alone_agree_less_than_good_predictions():
  old, new, _ = make_vectors()
  pairs = know_training_pairs([(old, new)], (28, 32), 600).add(old, new)
  agreed = measure_agreement([Old(), PredictInterpolate(0.03, 0.25)], pairs)
  assert agreed[0] < agreed[1] <= 1


@pytest.mark.parametrize('widths', WIDTHS)
def test_settings_scored_together_score_as_each_on_its_own(widths):
  old, new, _ = make_vectors(widths=widths)
  pairs = know_training_pairs([(old[:300], new[:300])], widths, 600)
  pairs = pairs.add(old[300:600], new[300:600])
  queries = Queries(new[600:640], old[600:640])
  settings = [
    PredictInterpolate(penalty, old_weight)
    for penalty in (0.01, 1.0)
    for old_weight in (0.0, 0.5, 2.8)
  ] + [Predict(0.1)]
  for together, alone in zip(
    score_predictions(settings, pairs, queries, old[640:]),
    score_each(settings, pairs, queries, old[640:]),
    strict=True,
  ):
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=2e-4 * np.ptp(alone))


def test_predictions_laid_out_in_several_blocks_are_as_in_one(monkeypatch):
  upgrade = make_upgrade()
  part = PredictInterpolate().fit(upgrade.pairs)
  whole = part.rows(upgrade.old)
  monkeypatch.setattr(predicted, '_BLOCK', 100)
  np.testing.assert_allclose(part.rows(upgrade.old), whole, atol=1e-6)


@pytest.mark.parametrize('name', ['auto', 'auto_new'])
@pytest.mark.parametrize('gallery', [0, 90, 400])
def test_what_is_chosen_is_what_fits_of_their_own_agree_with_best(
  name, gallery, monkeypatch
):
  old, new, _ = make_vectors(seed=gallery)
  pairs = know_training_pairs([(old[:300], new[:300])], (28, 32), 600)
  pairs = pairs.add(old[300 : 300 + gallery], new[300 : 300 + gallery])
  chosen = find_policy(name).fit(pairs)
  monkeypatch.setattr(automatic, 'score_predictions', score_each)
  plainly = find_policy(name).fit(pairs)
  assert chosen.old_weight == plainly.old_weight
  np.testing.assert_array_equal(
    chosen.predictor.weights, plainly.predictor.weights
  )


def test_a_policy_that_knows_the_new_vectors_agrees_wholly():
  _, new, _ = make_vectors(widths=(32, 32))
  new = unit_rows(new - new.mean(axis=0))
  # Where both spaces are one, the best prediction is the vector itself.
  pairs = know_training_pairs([(new, new)], (32, 32), 600)
  agreed = measure_agreement(
    [PredictInterpolate(1e-6, 0.0)], pairs, score_predictions
  )
  assert agreed[0] > 0.98


def test_needing_the_old_encoder_is_said():
  queries = Queries(np.eye(2, dtype=np.float32))
  with pytest.raises(AssertionError, match='needs the old encoder'):
    queries.needed_old()


def test_a_weight_that_follows_the_cosine_is_a_sigmoid_of_it():
  upgrade = make_upgrade()
  policy = InterpolateBy(old_weight=0.3, slope=5.0)
  found = policy.fit(upgrade.pairs).queries(upgrade.queries, None)
  known = upgrade.pairs.training
  left, _, right = np.linalg.svd(known.new.T @ known.old, full_matrices=False)
  usual = np.sum((known.new @ left @ right) * known.old, axis=1).mean()
  old, turned = upgrade.queries.old, upgrade.queries.new @ left @ right
  cosines = np.sum(old * turned, axis=1)
  beta = 1 / (1 + np.exp(-(np.log(0.7 / 0.3) + 5.0 * (cosines - usual))))
  expected = (1 - beta[:, None]) * old + beta[:, None] * turned
  np.testing.assert_allclose(found, unit_rows(expected), atol=1e-5)
  assert beta.max() - beta.min() > 0.1


def test_an_adaptive_weight_agrees_at_least_as_well_as_a_half():
  pairs = make_upgrade().pairs
  adaptive = find_policy('interpolate_adaptive').fit(pairs)
  weights = (adaptive.old_weight, adaptive.slope)
  agreed = measure_agreement([InterpolateBy(*weights), Interpolate()], pairs)
  assert agreed[0] >= agreed[1]
