import json
import math

import faiss
import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.retrieval import index as indexing
from advbct_jax.retrieval.evaluation import evaluate
from tests.retrieval.small_sets import encoder, gldv2_set, revisited_set

# Two queries that look for gallery images 0 and 1.
_SET = gldv2_set(relevant=[[0], [1]], usage=['Private', 'Public'])


def _at(*degrees):
  """Unit vectors at some angles, so that nearness can be read off."""
  return [
    (math.cos(math.radians(d)), math.sin(math.radians(d))) for d in degrees
  ]


# The old encoder finds the wanted image second, with the new one's queries
# first for the private query alone; the new encoder finds both first.
_OLD = {
  'landmarks-queries': _at(0, 90),
  'landmarks-gallery': _at(20, 70, 5, 85),
}
_NEW = {
  'landmarks-queries': _at(24, 100),
  'landmarks-gallery': _at(25, 99, 180, 200),
}


def _evaluate(folder, old=_OLD, new=_NEW, sets=(_SET,), **kwargs):
  return evaluate(
    sets,
    encoder(folder / 'old', old, weights='old') if old else None,
    encoder(folder / 'new', new, weights='new'),
    folder,
    **kwargs,
  )


def test_old_self_and_cross_are_measured_in_percent(tmp_path):
  figures = _evaluate(tmp_path)['datasets']['landmarks']

  assert figures['old'] == {
    'private/map@100': 50.0,
    'public/map@100': 50.0,
    'all/map@100': 50.0,
  }
  assert figures['cross'] == {
    'private/map@100': 100.0,
    'public/map@100': 50.0,
    'all/map@100': 75.0,
  }
  assert figures['self']['all/map@100'] == 100.0
  assert list(figures) == ['old', 'self', 'cross', 'refresh']


def test_results_are_written_as_they_are_returned(tmp_path):
  results = _evaluate(tmp_path)

  assert json.loads((tmp_path / 'results.json').read_text()) == results
  assert not list(tmp_path.rglob('*.unfinished'))


def test_results_say_who_was_compared_and_how(tmp_path):
  results = _evaluate(tmp_path)

  assert results['encoders']['old'] == {
    'encoder': 'resnet18',
    'weights': 'old',
    'dimension': 2,
    'compatible_dimension': 0,
    'preprocessing': 'squash to 8 pixels',
    'compute_dtype': 'float32',
  }
  assert results['encoders']['new']['weights'] == 'new'
  assert results['protocol']['landmarks'] == {
    'kind': 'gldv2',
    'main_metric': 'private/map@100',
    'queries': 2,
    'gallery': 4,
    'query_crop': False,
  }


def test_a_new_encoder_is_judged_alone_where_there_is_no_old_one(tmp_path):
  results = _evaluate(tmp_path, old=None)

  assert list(results['datasets']['landmarks']) == ['self']
  assert results['scores'] == {}


def test_revisited_sets_are_judged_over_the_whole_gallery(tmp_path):
  far = 150
  retrieval_set = revisited_set(
    easy=[[far]], hard=[[]], junk=[[0]], gallery=160, boxes=np.zeros((1, 4))
  )
  vectors = {
    'oxford-queries': _at(0),
    'oxford-gallery': _at(*np.linspace(0, 100, 160)),
  }
  results = _evaluate(tmp_path, vectors, vectors, [retrieval_set])

  # The 150th once junk is taken out: half of 1/150, by the trapezoidal rule.
  assert results['datasets']['oxford']['self']['medium/map'] == pytest.approx(
    100 / 300
  )
  assert results['protocol']['oxford']['query_crop']


def test_the_refresh_curve_leads_from_cross_to_self(tmp_path):
  count = 8
  retrieval_set = gldv2_set(
    relevant=[[i] for i in range(count)],
    usage=['Private'] * count,
    gallery=count,
  )
  new_axes = np.eye(2 * count)[:count]
  old_axes = np.eye(2 * count)[count:]
  # A new query matches its new image best, then all old images but its own:
  # what it looks for comes last until that, and only that, is re-embedded.
  queries = new_axes + 0.1 * old_axes.sum(axis=0) - 0.1 * old_axes
  old = {'landmarks-queries': old_axes, 'landmarks-gallery': old_axes}
  new = {'landmarks-queries': queries, 'landmarks-gallery': new_axes}

  figures = _evaluate(tmp_path, old, new, [retrieval_set])['datasets']
  curve = figures['landmarks']['refresh']

  assert list(curve) == ['0', '25', '50', '75', '100']
  assert curve['0'] == figures['landmarks']['cross']['private/map@100'] == 12.5
  # Two of eight found first; six wait behind five old images that match more,
  # among two new ones that match as little.
  assert 25 < curve['25'] < 25 + 75 / 6 + 1e-9
  assert 50 < curve['50'] < 50 + 50 / 4 + 1e-9
  assert 75 < curve['75'] < 75 + 25 / 2 + 1e-9
  assert curve['100'] == figures['landmarks']['self']['private/map@100'] == 100


def test_the_order_of_refreshing_hangs_on_the_seed_alone(tmp_path):
  rng = np.random.default_rng(0)
  retrieval_set = gldv2_set(
    relevant=rng.integers(0, 40, (6, 3)), usage=['Private'] * 6, gallery=40
  )
  old, new = (
    {
      'landmarks-queries': rng.normal(size=(6, 2)),
      'landmarks-gallery': rng.normal(size=(40, 2)),
    }
    for _ in range(2)
  )
  first, again, other = (
    _evaluate(tmp_path, old, new, [retrieval_set], seed=seed)['datasets'][
      'landmarks'
    ]['refresh']
    for seed in (1, 1, 2)
  )

  assert first == again
  assert first['50'] != other['50']


def test_indexes_hold_the_untouched_galleries_of_both_encoders(tmp_path):
  _evaluate(tmp_path)

  for role, gallery in (('old', _OLD), ('new', _NEW)):
    index, ids, card = indexing.read_index(
      tmp_path / 'indexes', f'{role}-landmarks'
    )
    assert card.weights == role
    assert ids == list(_SET.gallery.ids)
    np.testing.assert_allclose(
      index.reconstruct_n(0, 4), gallery['landmarks-gallery'], atol=1e-6
    )


def test_indexes_that_are_there_are_used_again(tmp_path, monkeypatch):
  first = _evaluate(tmp_path)
  monkeypatch.setattr(faiss, 'write_index', None)

  assert _evaluate(tmp_path) == first


def test_an_index_of_another_encoder_is_built_again(tmp_path):
  _evaluate(tmp_path / 'a', old=_OLD)
  evaluate(
    [_SET],
    encoder(tmp_path / 'b', _NEW, weights='other'),
    encoder(tmp_path / 'a' / 'new', _NEW, weights='new'),
    tmp_path / 'a',
  )

  _, _, card = indexing.read_index(tmp_path / 'a/indexes', 'old-landmarks')
  assert card.weights == 'other'


def test_scores_need_an_independent_encoder(tmp_path):
  assert _evaluate(tmp_path)['scores'] == {}

  results = _evaluate(
    tmp_path,
    independent=encoder(tmp_path / 'independent', _NEW, weights='independent'),
  )

  # σ(0), and σ(1): self and cross are the independent's 100.
  assert results['scores']['p_up'] == 50.0
  assert results['scores']['p_comp'] == pytest.approx(73.10586)
  figures = results['datasets']['landmarks']
  assert figures['independent']['private/map@100'] == 100.0


def test_undefined_scores_do_not_cost_the_other_figures(tmp_path):
  results = _evaluate(
    tmp_path,
    independent=encoder(tmp_path / 'independent', _OLD, weights='independent'),
  )

  assert results['scores'] == {}
  assert results['datasets']['landmarks']['self']['private/map@100'] == 100.0


def test_encoders_of_different_widths_are_refused(tmp_path):
  wide = {name: np.ones((len(rows), 3)) for name, rows in _NEW.items()}
  with pytest.raises(InputError, match=r'width 3, but .* have 2'):
    _evaluate(tmp_path, new=wide)


def test_a_set_without_private_queries_is_refused(tmp_path):
  public = gldv2_set(relevant=[[0], [1]], usage=['Public', 'Public'])
  with pytest.raises(InputError, match='landmarks: no query has anything'):
    _evaluate(tmp_path, sets=[public])


def test_two_sets_of_one_name_are_refused(tmp_path):
  with pytest.raises(InputError, match='landmarks, landmarks'):
    _evaluate(tmp_path, sets=[_SET, _SET])
