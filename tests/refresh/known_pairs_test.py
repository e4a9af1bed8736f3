import dataclasses

import numpy as np
import pytest

from advbct_jax.adapters import ridge
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.refresh import known_pairs
from advbct_jax.refresh.known_pairs import (
  FOLDS,
  GALLERY_WEIGHT,
  KnownPairs,
  cluster,
  know_training_pairs,
  load_pairs,
  save_pairs,
)
from tests.made_up_upgrade import make_vectors

ENCODERS = {'old': {'encoder': 'a'}, 'new': {'encoder': 'b'}}


def know(chunk: int = 1000, encoders=None) -> KnownPairs:
  old, new, _ = make_vectors()
  training = [
    (old[start : start + chunk], new[start : start + chunk])
    for start in range(0, 300, chunk)
  ]
  if chunk > 300:
    training = [(old[:300], new[:300])]
  pairs = know_training_pairs(training, (28, 32), 600, encoders)
  for start in range(300, 900, chunk):
    pairs = pairs.add(old[start : start + chunk], new[start : start + chunk])
  return pairs


def test_the_sums_are_over_all_pairs_and_the_gallery_weighs_more():
  old, new, _ = make_vectors()
  sums = know().sums
  weights = np.r_[np.ones(300), np.full(600, GALLERY_WEIGHT)]
  assert sums.count == weights.sum()
  np.testing.assert_allclose(sums.x, weights @ old, rtol=1e-5)
  np.testing.assert_allclose(sums.xy, (old.T * weights) @ new, rtol=1e-4)
  np.testing.assert_allclose(
    know().training.total.y, new[:300].sum(0), rtol=1e-5
  )


def test_the_gallerys_sums_and_sample_dont_depend_on_how_pairs_come():
  whole, parts = know().gallery, know(chunk=130).gallery
  np.testing.assert_array_equal(whole.old, parts.old)
  np.testing.assert_array_equal(whole.fold, parts.fold)
  for one, other in zip(whole.sums, parts.sums, strict=True):
    np.testing.assert_allclose(one.xx, other.xx, atol=1e-4)


def test_pairs_of_several_blocks_are_as_those_of_one(monkeypatch):
  whole = know()
  monkeypatch.setattr(known_pairs, '_BLOCK', 130)
  blocks = know()
  for name in ('training', 'gallery'):
    one, other = getattr(whole, name), getattr(blocks, name)
    assert one.count == other.count
    np.testing.assert_array_equal(one.new, other.new)
    np.testing.assert_array_equal(one.fold, other.fold)
    np.testing.assert_allclose(one.total.xy, other.total.xy, atol=1e-4)


def test_a_large_group_keeps_a_sample_of_bounded_size_from_all_of_it():
  pairs = know_training_pairs([], (10, 10), 10_000)
  for place in range(10):
    rows = np.repeat(np.eye(10, dtype=np.float32)[place : place + 1], 1000, 0)
    pairs = pairs.add(rows, rows)
  assert pairs.gallery.count == 10_000
  counts = pairs.gallery.old.sum(axis=0)
  assert counts.sum() == 2048
  assert counts.min() > 150


def test_things_with_a_zero_vector_are_left_out():
  old, new, _ = make_vectors()
  old[3] = 0
  new[5] = 0
  pairs = know_training_pairs([(old, new)], (28, 32), 10)
  assert pairs.training.count == 898


def test_the_share_is_that_of_the_gallery():
  assert know_training_pairs([], (28, 32), 600).share == 0
  assert know().share == 1


def test_held_out_pairs_are_not_among_the_others():
  for known, (old, _) in know().held_out:
    assert len(old) == 150
    assert known.gallery.count == 450
    there = {row.tobytes() for row in known.gallery.old}
    assert there.isdisjoint(row.tobytes() for row in old)


def test_before_there_are_gallery_pairs_clusters_are_held_out():
  old, new, _ = make_vectors(classes=40)
  pairs = know_training_pairs([(old, new)], (28, 32), 10)
  centres = cluster(old, 20)
  parts = []
  for _, (held, _) in pairs.held_out:
    parts.append(set(np.argmax(held @ centres.T, axis=1)))
  assert len(parts) == FOLDS
  for number, part in enumerate(parts):
    assert part.isdisjoint(set().union(*parts[:number]))


def test_no_cluster_is_lost_where_there_are_fewer_rows_than_clusters():
  rows = unit_rows(np.random.default_rng(0).normal(size=(3, 4)))
  assert cluster(rows, 20).shape == (3, 4)


def test_a_predictor_is_the_ridge_map_of_the_centred_vectors():
  pairs = know()
  predictor = pairs.predictor(0.1)
  weights, bias = ridge.solve(pairs.sums, 0.1)
  old, _, _ = make_vectors()
  predicted = (old - predictor.old_mean) @ predictor.weights
  expected = old @ weights + bias - predictor.new_mean
  ratio = np.linalg.norm(predicted) / np.linalg.norm(expected)
  np.testing.assert_allclose(predicted, ratio * expected, atol=1e-4)
  weighted = np.r_[np.ones(300), np.full(600, GALLERY_WEIGHT)]
  squares = np.square(predicted).sum(axis=1)
  assert np.average(squares, weights=weighted) == pytest.approx(1, abs=1e-3)
  centred = np.square(old - predictor.old_mean).sum(axis=1)
  assert np.average(centred, weights=weighted) == pytest.approx(
    predictor.old_scale**2, abs=1e-3
  )


def test_saved_pairs_come_back_as_they_were(tmp_path):
  pairs = know(encoders=ENCODERS)
  save_pairs(pairs, tmp_path / 'state')
  back = load_pairs(tmp_path / 'state', ENCODERS)
  assert back.gallery_size == 600
  assert back.encoders == ENCODERS
  for name in ('training', 'gallery'):
    here, there = getattr(pairs, name), getattr(back, name)
    for field in ('old', 'new', 'fold', 'priority'):
      np.testing.assert_array_equal(getattr(here, field), getattr(there, field))
    for one, other in zip(here.sums, there.sums, strict=True):
      for field in dataclasses.fields(one):
        np.testing.assert_array_equal(
          getattr(one, field.name), getattr(other, field.name)
        )
  old, new, _ = make_vectors(seed=4)
  np.testing.assert_array_equal(
    pairs.add(old, new).gallery.old, back.add(old, new).gallery.old
  )


def test_pairs_of_another_encoder_are_refused(tmp_path):
  save_pairs(know(encoders=ENCODERS), tmp_path)
  changed = {**ENCODERS, 'new': {'encoder': 'b', 'weights': 'other'}}
  with pytest.raises(InputError, match='pairs of other encoders:\n  new: '):
    load_pairs(tmp_path, changed)


@pytest.mark.parametrize('content', [None, b'', b'nonsense', b'\0' * 100])
def test_what_is_no_saved_pairs_is_refused(tmp_path, content):
  if content is not None:
    (tmp_path / 'sums.safetensors').write_bytes(content)
  with pytest.raises(InputError, match='no pairs can be read'):
    load_pairs(tmp_path)


def test_training_pairs_of_other_widths_are_refused():
  old, new, _ = make_vectors()
  with pytest.raises(InputError, match='of widths 28 and 32; wanted: 28 and 8'):
    know_training_pairs([(old, new)], (28, 8), 10)
