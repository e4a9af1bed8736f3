"""Parts of retrieval sets: what is in them, and that they are the same."""

import dataclasses

import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.retrieval.metrics import gldv2_metrics, revisited_metrics
from advbct_jax.retrieval.parts import take_part
from tests.retrieval.small_sets import gldv2_set, revisited_set


@pytest.fixture
def landmarks():
  """20 queries, of which the odd ones count, and 2 of these find nothing."""
  relevant = [[300 + 2 * query, 17 * query] for query in range(20)]
  relevant[3] = relevant[5] = []
  return gldv2_set(relevant, ['Public', 'Private'] * 10, gallery=400)


def test_a_part_has_queries_that_count_and_what_is_to_be_found(landmarks):
  part = take_part(landmarks, 4)

  assert (len(part.queries), len(part.gallery)) == (4, 40)
  assert list(part.ground_truth.usage) == ['Private'] * 4
  for query, positions in zip(
    part.queries.ids, part.ground_truth.relevant, strict=True
  ):
    whole = landmarks.ground_truth.relevant[landmarks.queries.ids.index(query)]
    found = {part.gallery.ids[position] for position in positions}
    assert found == {landmarks.gallery.ids[position] for position in whole}
    assert found


def test_a_part_is_the_same_each_time(landmarks):
  first, second = take_part(landmarks, 4), take_part(landmarks, 4)

  assert first.queries.ids == second.queries.ids
  assert first.gallery.ids == second.gallery.ids


def test_more_queries_than_count_are_all_that_count(landmarks):
  assert len(take_part(landmarks, 100).queries) == 8


def test_what_is_to_be_found_is_there_however_much_it_is():
  part = take_part(gldv2_set([range(50)], ['Private'], gallery=60), 1)

  assert len(part.gallery) == 50


def test_images_keep_their_bytes_boxes_and_labels(landmarks):
  count = len(landmarks.queries)
  whole = dataclasses.replace(
    landmarks.queries,
    images=[image_id.encode() for image_id in landmarks.queries.ids],
    boxes=np.arange(4 * count, dtype=np.float32).reshape(count, 4),
    labels=np.arange(count),
  )
  part = take_part(dataclasses.replace(landmarks, queries=whole), 4).queries

  rows = [whole.ids.index(image_id) for image_id in part.ids]
  assert [part.images[row].decode() for row in range(4)] == part.ids
  assert part.labels.tolist() == rows
  np.testing.assert_array_equal(part.boxes, whole.boxes[rows])
  assert (part.name, len(part.images)) == (whole.name, 4)


def test_a_part_of_a_revisited_set_has_easy_and_hard_images():
  whole = revisited_set(
    easy=[[1], [], [70]],
    hard=[[2], [], [71, 72]],
    junk=[[3], [4], [70]],
    gallery=80,
  )
  part = take_part(whole, 9)
  truth = part.ground_truth

  assert part.queries.ids == ['oxford-queries0', 'oxford-queries2']
  for grade, wanted in (('easy', [[1], [70]]), ('hard', [[2], [71, 72]])):
    assert [
      [part.gallery.ids[position] for position in positions]
      for positions in getattr(truth, grade)
    ] == [[f'oxford-gallery{image}' for image in images] for images in wanted]


@pytest.mark.parametrize('kind', ['gldv2', 'revisited'])
def test_a_ranking_of_the_whole_is_judged_alike_in_a_part_of_all(kind):
  if kind == 'gldv2':
    whole = gldv2_set([[3], [0, 1]], ['Private'] * 2)
    measure = gldv2_metrics
  else:
    whole = revisited_set([[3], [0]], [[], [1]], [[0], [2]])
    measure = revisited_metrics
  part = take_part(whole, 2)
  ranks = np.array([[2, 3, 1, 0], [0, 2, 1, 3]])

  assert part.gallery.ids == whole.gallery.ids
  assert measure(ranks, part.ground_truth) == measure(ranks, whole.ground_truth)


@pytest.mark.parametrize(
  'nothing',
  [
    gldv2_set([[1]], ['Public']),
    gldv2_set([[]], ['Private']),
    revisited_set([[]], [[]], [[1]]),
  ],
)
def test_a_set_in_which_nothing_counts_is_refused(nothing):
  with pytest.raises(InputError, match='no query has anything to find for'):
    take_part(nothing, 3)
