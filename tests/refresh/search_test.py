import numpy as np
import pytest

from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.refresh.known_pairs import GALLERY_WEIGHT
from advbct_jax.refresh.policies import POLICIES, find_policy
from advbct_jax.refresh.policies.predicted import PredictInterpolate
from advbct_jax.refresh.policies.rotated import Bridge
from advbct_jax.refresh.policy import Queries
from advbct_jax.refresh.scale import fit_scale
from advbct_jax.refresh.search import (
  StagedGallery,
  search_cascade,
  search_staged,
)
from tests.made_up_upgrade import make_upgrade

K = 50


@pytest.fixture(scope='module')
def upgrade():
  return make_upgrade()


def stage(upgrade, count, seed=0):
  """The gallery with some things re-embedded, and what is known then."""
  rows = np.random.default_rng(seed).permutation(len(upgrade.old))[:count]
  done = np.zeros(len(upgrade.old), bool)
  done[rows] = True
  pairs = upgrade.pairs.add(upgrade.old[rows], upgrade.new[rows])
  return StagedGallery(upgrade.old, upgrade.new, done), pairs


def search(upgrade, name, count, k=K):
  gallery, pairs = stage(upgrade, count)
  part = find_policy(name).fit(pairs)
  scale = fit_scale(part, pairs)
  return search_staged(gallery, part, scale, upgrade.queries, k)


def require_ranks(ranks, scores):
  """Refuses ranks [Q, k] that don't descend to the best of scores [Q, N]."""
  found = np.take_along_axis(scores, ranks, axis=1)
  best = -np.sort(-scores, axis=1)[:, : ranks.shape[1]]
  # Sums in another order may exchange two things that are all but level.
  np.testing.assert_allclose(found, best, atol=1e-6)


def rank(scores, k=K):
  return np.argsort(-scores, axis=1, kind='stable')[:, :k]


def weighted_pairs(upgrade, gallery):
  """All pairs that are known, and their weights."""
  sample = upgrade.pairs.training
  old = np.concatenate([sample.old, gallery.old[gallery.done]])
  new = np.concatenate([sample.new, gallery.new[gallery.done]])
  weights = np.r_[
    np.ones(len(sample.old)), np.full(gallery.done.sum(), GALLERY_WEIGHT)
  ]
  return old, new, weights


def turn(old, new, weights):
  """Procrustes by the definition."""
  left, _, right = np.linalg.svd(
    np.einsum('n,nd,ne->de', weights, new, old), full_matrices=False
  )
  return left @ right


def merge(upgrade, gallery, old_scores, new_scores, old_known, weights, new):
  """One scale, query by query, by the definition."""
  known = upgrade.queries.new @ new.T
  weights = weights / weights.sum()
  merged = np.empty_like(old_scores)
  for query in range(len(merged)):
    here, there = old_known[query], known[query]
    means = weights @ here, weights @ there
    deviations = (
      np.sqrt(weights @ (here - means[0]) ** 2),
      np.sqrt(weights @ (there - means[1]) ** 2),
    )
    rescaled = (old_scores[query] - means[0]) / deviations[0]
    merged[query] = np.where(
      gallery.done,
      new_scores[query],
      rescaled * deviations[1] + means[1],
    )
  return merged


def brute_force(upgrade, name, gallery):
  """Scores [Q, N] of a policy, from its definition alone."""
  old, new, weights = weighted_pairs(upgrade, gallery)
  q_old, q_new = upgrade.queries.old, upgrade.queries.new
  new_scores = q_new @ gallery.new.T
  training = upgrade.pairs.training

  def vectors(rotation, old_weight=0.0):
    turned = (1 - old_weight) * q_new @ rotation + old_weight * q_old
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)

  if name == 'fixed':
    rotation = turn(training.old, training.new, np.ones(len(training.old)))
    scores = vectors(rotation) @ gallery.old.T
    return np.where(gallery.done, new_scores, scores)
  if name == 'trained':
    narrow = upgrade.old.shape[1]
    asked = unit_rows(q_new[:, :narrow])
    return np.where(
      gallery.done,
      asked @ unit_rows(gallery.new[:, :narrow]).T,
      asked @ gallery.old.T,
    )
  if name == 'predict' or name == 'predict_interpolate':
    policy = find_policy(name)
    gamma = getattr(policy, 'old_weight', 0.0)
    share = weights / weights.sum()
    centred, target = old - share @ old, new - share @ new
    covariance = (centred.T * share) @ centred
    ridge = policy.penalty * np.trace(covariance) / len(covariance)
    mapped = np.linalg.solve(
      covariance + ridge * np.eye(len(covariance)), (centred.T * share) @ target
    )

    def lay(rows):
      rows = rows - share @ old
      predicted = rows @ mapped / s_new
      both = np.hstack([predicted, gamma * rows / s_old])
      return both / np.linalg.norm(both, axis=1, keepdims=True)

    s_new = np.sqrt(share @ np.square(centred @ mapped).sum(axis=1))
    s_old = np.sqrt(share @ np.square(centred).sum(axis=1))
    asked = np.hstack(
      [unit_rows(q_new - share @ new), unit_rows(q_old - share @ old)]
    )
    return merge(
      upgrade,
      gallery,
      asked @ lay(gallery.old).T,
      new_scores,
      asked @ lay(old).T,
      weights,
      new,
    )
  if name == 'old':
    asked = q_old
  elif name == 'refit':
    asked = vectors(turn(old, new, weights))
  elif name == 'interpolate':
    asked = vectors(turn(old, new, weights), 0.5)
  elif name == 'bridge':
    rows = np.flatnonzero(gallery.done)
    policy = Bridge()
    weight = min(policy.most, 4 * gallery.done.mean())
    asked = []
    for turned, query in zip(
      vectors(turn(old, new, weights)), q_new, strict=True
    ):
      found = q = gallery.new[rows] @ query
      nearest = np.argsort(-found)[: policy.neighbours]
      softmax = np.exp(q[nearest] / policy.temperature)
      bridge = softmax @ gallery.old[rows[nearest]] / softmax.sum()
      mixed = (1 - weight) * turned + weight * bridge
      asked.append(mixed / np.linalg.norm(mixed))
    asked = np.array(asked)
  return merge(
    upgrade,
    gallery,
    asked @ gallery.old.T,
    new_scores,
    asked @ old.T,
    weights,
    new,
  )


@pytest.mark.parametrize(
  'name',
  [
    'old',
    'fixed',
    'refit',
    'interpolate',
    'bridge',
    'predict',
    'predict_interpolate',
    'trained',
  ],
)
@pytest.mark.parametrize('count', [40, 300])
def test_a_policy_ranks_as_its_definition_does(upgrade, name, count):
  gallery, _ = stage(upgrade, count)
  expected = brute_force(upgrade, name, gallery)
  _, ranks = search(upgrade, name, count)
  found = np.take_along_axis(expected, ranks, axis=1)
  best = -np.sort(-expected, axis=1)[:, :K]
  np.testing.assert_allclose(found, best, atol=2e-5)


def test_a_merge_by_rank_takes_turns_by_the_parts_sizes(upgrade):
  gallery, _ = stage(upgrade, 180)
  _, ranks = search(upgrade, 'rank_merge', 180)
  new = rank(np.where(gallery.done, upgrade.queries.new @ upgrade.new.T, -9))
  old = rank(np.where(gallery.done, -9, upgrade.queries.old @ upgrade.old.T))
  for query in range(len(ranks)):
    mine = gallery.done[ranks[query]]
    # A third of the gallery is new, and so is a third of what is found.
    assert abs(mine.sum() - K / 3) < 2
    np.testing.assert_array_equal(ranks[query][mine], new[query][: mine.sum()])
    np.testing.assert_array_equal(
      ranks[query][~mine], old[query][: K - mine.sum()]
    )


@pytest.mark.parametrize(
  'name', [name for name in POLICIES if not name.startswith('cascade')]
)
def test_where_all_is_re_embedded_the_new_encoder_alone_ranks(upgrade, name):
  _, ranks = search(upgrade, name, len(upgrade.old))
  require_ranks(ranks, upgrade.queries.new @ upgrade.new.T)


@pytest.mark.parametrize('name', ['old', 'rank_merge'])
def test_where_nothing_is_re_embedded_old_queries_rank_as_they_did(
  upgrade, name
):
  _, ranks = search(upgrade, name, 0)
  require_ranks(ranks, upgrade.queries.old @ upgrade.old.T)


def test_each_thing_is_found_once(upgrade):
  _, ranks = search(upgrade, 'auto', 200, k=len(upgrade.old))
  assert (np.sort(ranks, axis=1) == np.arange(len(upgrade.old))).all()


def test_a_cascade_ranks_its_first_results_by_the_new_encoder(upgrade):
  gallery, pairs = stage(upgrade, 100)
  part = find_policy('auto').fit(pairs)
  scale = fit_scale(part, pairs)
  _, before = search_staged(gallery, part, scale, upgrade.queries, K)
  ranks, calls = search_cascade(gallery, part, scale, upgrade.queries, K, 20)
  np.testing.assert_array_equal(ranks[:, 20:], before[:, 20:])
  scores = upgrade.queries.new @ upgrade.new.T
  for query in range(len(ranks)):
    first = before[query, :20]
    expected = first[np.argsort(-scores[query, first], kind='stable')]
    np.testing.assert_array_equal(ranks[query, :20], expected)
  needed = np.unique(before[:, :20])
  assert calls == (~gallery.done[needed]).sum() / len(ranks)


def test_a_cascade_over_everything_ranks_as_the_new_encoder(upgrade):
  gallery, pairs = stage(upgrade, 0)
  part = find_policy('auto').fit(pairs)
  count = len(upgrade.old)
  ranks, calls = search_cascade(
    gallery, part, fit_scale(part, pairs), upgrade.queries, count, count
  )
  scores = upgrade.queries.new @ upgrade.new.T
  require_ranks(ranks, scores)
  assert calls == count / len(ranks)


def test_old_vectors_of_one_chunk_or_many_give_the_same(upgrade, monkeypatch):
  whole = search(upgrade, 'predict_interpolate', 200)
  monkeypatch.setattr('advbct_jax.refresh.search._CHUNK', 37)
  parts = search(upgrade, 'predict_interpolate', 200)
  np.testing.assert_array_equal(whole[1], parts[1])


def test_the_old_index_has_one_number_beside_each_vector(upgrade):
  _, pairs = stage(upgrade, 100)
  part = PredictInterpolate().fit(pairs)
  rows = part.rows(upgrade.old)
  np.testing.assert_allclose(
    rows[:, :-1] / rows[:, -1:], upgrade.old, atol=1e-6
  )


@pytest.mark.parametrize(
  'name', [name for name, kind in POLICIES.items() if not kind.needs_old]
)
def test_what_needs_no_old_encoder_is_given_none(upgrade, name):
  gallery, pairs = stage(upgrade, 100)
  policy = find_policy(name)
  part = policy.fit(pairs)
  scale = fit_scale(part, pairs)
  new_alone = Queries(upgrade.queries.new)
  both, alone = (
    search_cascade(gallery, part, scale, queries, K, policy.budget)[0]
    for queries in (upgrade.queries, new_alone)
  )
  np.testing.assert_array_equal(both, alone)
