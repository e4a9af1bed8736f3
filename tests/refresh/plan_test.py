import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.refresh.curve import measure_curves
from advbct_jax.refresh.plan import PLANNED_SHARES, plan_refresh
from advbct_jax.refresh.policies import find_policies
from tests.made_up_upgrade import make_upgrade, make_vectors


@pytest.fixture(scope='module')
def plan():
  old, new, labels = make_vectors()
  return plan_refresh(old, new, [str(label) for label in labels])


def test_a_plan_says_how_far_policies_get_on_the_way(plan):
  assert plan.pairs == 900
  assert 0 < plan.agreement < 0.9
  assert plan.by_classes
  assert plan.curves['old'][0, 0] == pytest.approx(0)
  for way, error in plan.curves.values():
    assert way.shape == error.shape == (len(PLANNED_SHARES),)
    assert (error >= 0).all()
  assert (plan.curves['auto'][0] > plan.curves['old'][0]).all()


def test_the_expected_way_is_that_of_a_gallery_of_other_classes(plan):
  upgrade = make_upgrade()
  (measured,) = measure_curves(
    upgrade, find_policies(['auto']), seeds=(0,), shares=PLANNED_SHARES
  )['curves']
  difference = 100 * np.array(measured['gain']) - plan.curves['auto'][0]
  assert np.abs(difference).mean() < 15


def test_without_classes_nearness_to_the_new_encoder_counts():
  old, new, _ = make_vectors()
  plan = plan_refresh(old, new)
  assert not plan.by_classes
  assert plan.quality is None
  assert plan.curves['old'][0, 0] == pytest.approx(0)
  assert plan.curves['auto'][0, -1] > 50


def test_classes_that_show_no_difference_are_passed_over():
  old, new, _ = make_vectors()
  labels = np.random.default_rng(0).integers(0, 30, len(old))
  plan = plan_refresh(old, new, [str(label) for label in labels])
  assert not plan.by_classes
  assert 'may be chance' in plan.advice


def test_classes_of_a_few_things_are_not_enough():
  old, new, labels = make_vectors()
  names = [str(label) if row < 90 else '' for row, label in enumerate(labels)]
  assert plan_refresh(old, new, names).quality is None


def test_a_better_encoder_is_recommended(plan):
  quality = plan.quality
  assert quality.new > quality.old + 5 * quality.error
  assert plan.policy == 'auto'
  assert plan.advice.startswith('Take the policy auto: from 0% on')


def test_without_the_old_encoder_only_policies_of_the_new_one_are_planned():
  old, new, _ = make_vectors()
  plan = plan_refresh(old, new, old_at_query_time=False)
  assert list(plan.curves) == ['fixed', 'auto_new']
  assert plan.policy == 'auto_new'
  assert plan.quality is None
  assert 'only labels can tell' in plan.advice


def test_a_worse_encoder_is_advised_against():
  old, new, labels = make_vectors()
  plan = plan_refresh(new, old, [str(label) for label in labels])
  assert plan.policy == ''
  assert not plan.curves
  assert plan.advice.startswith("Don't: things of one class")


def test_an_encoder_that_says_the_same_is_advised_against():
  old, _, _ = make_vectors()
  turn = np.linalg.qr(np.random.default_rng(0).normal(size=(28, 28)))[0]
  plan = plan_refresh(old, old @ turn)
  assert plan.policy == ''
  assert plan.cosine == pytest.approx(1, abs=1e-3)
  assert 'little can change' in plan.advice


@pytest.mark.parametrize('count', [0, 1, 199])
def test_too_few_things_are_refused(count):
  old, new, _ = make_vectors()
  with pytest.raises(InputError, match=f'{count} old and {count} new vectors'):
    plan_refresh(old[:count], new[:count])


@pytest.mark.parametrize('side', ['old', 'new'])
def test_vectors_that_are_all_the_same_are_refused(side):
  old, new, _ = make_vectors()
  vectors = {'old': old, 'new': new}
  vectors[side] = np.repeat(vectors[side][:1], 900, axis=0)
  with pytest.raises(InputError, match=f'only 1 of 900 {side} vectors differ'):
    plan_refresh(vectors['old'], vectors['new'])
