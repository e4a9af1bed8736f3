import json

import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.refresh.curve import SHARES, measure_curves
from advbct_jax.refresh.policies import find_policies
from advbct_jax.refresh.report import render_curves, write_curves
from advbct_jax.retrieval import metrics
from tests.made_up_upgrade import make_upgrade


@pytest.fixture(scope='module')
def upgrade():
  return make_upgrade()


@pytest.fixture(scope='module')
def measured(upgrade):
  return measure_curves(
    upgrade,
    find_policies(['old', 'auto', 'cascade:30']),
    ['random', 'uncertain'],
    seeds=[0, 1],
  )


def judge(upgrade, queries, gallery):
  ranks = np.argsort(-(queries @ gallery.T), axis=1, kind='stable')[:, :100]
  truth = upgrade.retrieval_set.ground_truth
  return 100 * metrics.gldv2_metrics(ranks, truth)['private/map@100']


def test_ends_are_old_and_self_exactly(upgrade, measured):
  old = judge(upgrade, upgrade.queries.old, upgrade.old)
  new = judge(upgrade, upgrade.queries.new, upgrade.new)
  assert (measured['old'], measured['self']) == (old, new)
  for curve in measured['curves']:
    assert curve['mean'][-1] == new
    assert curve['gain'][-1] == 1
    if curve['policy'] == 'old':
      assert curve['mean'][0] == old


def test_each_policy_is_measured_in_each_order(measured):
  named = [(curve['policy'], curve['order']) for curve in measured['curves']]
  assert named == [
    (policy, order)
    for order in ('random', 'uncertain')
    for policy in ('old', 'auto', 'cascade:30')
  ]


def test_the_summary_follows_from_the_curve(measured):
  old, way = measured['old'], measured['self'] - measured['old']
  for curve in measured['curves']:
    mean = np.array(curve['mean'])
    assert len(mean) == len(SHARES)
    area = np.trapezoid((mean - old) / way, np.array(SHARES) / 100)
    assert curve['area'] == pytest.approx(area)
    assert curve['worst'] == pytest.approx(mean.min() - old)
    below = [
      share for share, value in zip(SHARES, mean, strict=True) if value < old
    ]
    assert (curve['above_from'] or 0) > max(below, default=-1)


def test_flips_compare_first_results_with_the_old_services(upgrade, measured):
  truth = upgrade.retrieval_set.ground_truth
  right = [
    np.array(
      [
        np.argmax(scores) in truth.wanted(query)
        for query, scores in enumerate(queries @ gallery.T)
      ]
    )
    for queries, gallery in (
      (upgrade.queries.old, upgrade.old),
      (upgrade.queries.new, upgrade.new),
    )
  ]
  curve = measured['curves'][1]
  gained = 100 * (right[1] & ~right[0]).mean()
  lost = 100 * (right[0] & ~right[1]).mean()
  assert curve['positive_flips'][-1] == pytest.approx(gained)
  assert curve['negative_flips'][-1] == pytest.approx(lost)


def test_only_a_cascade_embeds_things_for_queries(measured):
  for curve in measured['curves']:
    calls = curve['calls']
    assert calls[-1] == 0
    if curve['policy'] == 'cascade:30':
      assert 0 < calls[0] <= 30
      assert calls[0] > calls[4] > 0
    else:
      assert not any(calls)


def test_the_report_has_all_curves_and_a_plot(measured, tmp_path):
  write_curves({'made-up': measured}, tmp_path)
  text = (tmp_path / 'refresh_policies.md').read_text('utf-8')
  assert text == render_curves({'made-up': measured})
  assert '| auto, both encoders, random |' in text
  assert (tmp_path / 'refresh_policies.png').stat().st_size > 10_000
  written = json.loads((tmp_path / 'refresh_policies.json').read_text('utf-8'))
  assert written['made-up']['curves'][0]['policy'] == 'old'


@pytest.mark.parametrize('shares', [(10, 5), (5, 5), (-1, 5), (50, 101)])
def test_shares_that_go_back_are_refused(upgrade, shares):
  with pytest.raises(InputError, match='what is re-embedded stays so'):
    measure_curves(upgrade, find_policies(['old']), shares=shares)
