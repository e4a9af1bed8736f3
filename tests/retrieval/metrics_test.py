import numpy as np
import pytest

from advbct_jax.data.ground_truth import Gldv2GroundTruth, RevisitedGroundTruth
from advbct_jax.errors import InputError
from advbct_jax.retrieval import metrics


def _images(*queries):
  return [np.array(images, np.int64) for images in queries]


def _revisited(easy, hard, junk):
  return RevisitedGroundTruth(_images(easy), _images(hard), _images(junk))


def test_trapezoidal_average_precision_averages_both_ends_of_each_step():
  # Precision rises from 0/1 to 1/2, then from 1/2 to 2/3.
  hits = np.array([1, 2])
  assert metrics.trapezoidal_average_precision(hits, 2) == pytest.approx(
    (0.25 + 7 / 12) / 2
  )


def test_a_wanted_image_that_was_not_found_lowers_average_precision():
  hits = np.array([0])
  assert metrics.trapezoidal_average_precision(hits, 4) == 0.25
  assert metrics.average_precision(hits, 4) == 0.25


def test_precision_looks_no_further_than_the_last_wanted_image():
  assert metrics.precision_at(np.array([0, 1]), 5) == 1.0
  assert metrics.precision_at(np.array([0, 7]), 5) == 0.2


def test_precision_is_0_where_nothing_was_found():
  assert metrics.precision_at(np.array([], int), 5) == 0.0


def test_junk_is_taken_out_of_the_ranking():
  truth = _revisited(easy=[4], hard=[], junk=[2, 3])
  measured = metrics.revisited_metrics(np.array([[3, 2, 4, 0, 1]]), truth)

  assert measured['easy/map'] == 1.0
  assert measured['easy/mp@1'] == 1.0


def test_each_level_ignores_the_grades_it_does_not_want():
  truth = _revisited(easy=[0], hard=[1], junk=[2])
  # Junk first, then hard, then a wrong image, then easy.
  measured = metrics.revisited_metrics(np.array([[2, 1, 3, 0]]), truth)

  assert measured['hard/map'] == 1.0
  assert measured['easy/map'] == 0.25  # second of [3, 0]
  assert measured['medium/map'] == pytest.approx((1 + 7 / 12) / 2)
  assert measured['medium/mp@1'] == 1.0
  assert measured['medium/mp@5'] == pytest.approx(2 / 3)
  assert measured['easy/mp@10'] == 0.5


def test_a_query_without_positives_is_left_out_of_the_mean():
  truth = RevisitedGroundTruth(
    easy=_images([0], []), hard=_images([1], [1]), junk=_images([], [])
  )
  ranks = np.array([[0, 1, 2], [2, 1, 0]])

  by_query = metrics.revisited_by_query(ranks, truth)
  assert by_query['easy/map'][0] == 1.0
  assert np.isnan(by_query['easy/map'][1])
  assert metrics.revisited_metrics(ranks, truth)['easy/map'] == 1.0


def test_a_level_without_any_positive_has_no_figure():
  truth = _revisited(easy=[0], hard=[], junk=[])
  measured = metrics.revisited_metrics(np.array([[0, 1]]), truth)

  assert sorted({name.split('/')[0] for name in measured}) == ['easy', 'medium']


def test_gldv2_divides_by_the_relevant_images_and_not_by_the_hits():
  truth = Gldv2GroundTruth(_images([5, 7, 9, 11]), ['Private'])
  ranks = np.array([[5, 1, 7, 2]])

  # (1/1 + 2/3) / 4.
  assert metrics.gldv2_by_query(ranks, truth) == pytest.approx([5 / 12])


def test_gldv2_asks_for_no_more_than_100_images():
  ranks = np.arange(150)[None]
  truth = Gldv2GroundTruth(_images(np.arange(150)), ['Private'])

  assert metrics.gldv2_by_query(ranks, truth) == [1.0]


def test_gldv2_looks_no_further_than_100_places():
  ranks = np.arange(150)[None]
  truth = Gldv2GroundTruth(_images([120]), ['Private'])

  assert metrics.gldv2_by_query(ranks, truth) == [0.0]


def test_gldv2_averages_private_public_and_both_without_ignored_queries():
  truth = Gldv2GroundTruth(
    _images([0], [1], [1], [0]), ['Private', 'Public', 'Public', 'Ignored']
  )
  ranks = np.array([[0, 1]] * 4)

  assert metrics.gldv2_metrics(ranks, truth) == {
    'private/map@100': 1.0,
    'public/map@100': 0.5,
    'all/map@100': pytest.approx(2 / 3),
  }


def test_gldv2_has_no_figure_for_a_subset_without_queries():
  truth = Gldv2GroundTruth(_images([0]), ['Public'])
  measured = metrics.gldv2_metrics(np.array([[0, 1]]), truth)

  assert sorted(measured) == ['all/map@100', 'public/map@100']


def test_person_images_of_the_same_camera_are_taken_out_of_the_ranking():
  curve, mean_ap = metrics.person_metrics(
    ranks=np.array([[0, 1, 2, 3]]),
    query_ids=np.array([7]),
    query_cameras=np.array([0]),
    gallery_ids=np.array([7, 8, 7, 7]),
    gallery_cameras=np.array([0, 0, 1, 2]),
    depth=3,
  )

  # Ranked without image 0: wrong, right, right.
  np.testing.assert_array_equal(curve, [0, 1, 1])
  assert mean_ap == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_person_seen_by_one_camera_only_is_left_out_of_the_mean():
  curve, mean_ap = metrics.person_metrics(
    ranks=np.array([[0, 1], [0, 1]]),
    query_ids=np.array([7, 8]),
    query_cameras=np.array([0, 0]),
    gallery_ids=np.array([7, 8]),
    gallery_cameras=np.array([1, 0]),
    depth=1,
  )

  assert curve.tolist() == [1.0]
  assert mean_ap == 1.0


def test_persons_that_no_other_camera_saw_are_refused():
  with pytest.raises(InputError, match='none of 1 queries'):
    metrics.person_metrics(
      ranks=np.array([[0]]),
      query_ids=np.array([7]),
      query_cameras=np.array([0]),
      gallery_ids=np.array([7]),
      gallery_cameras=np.array([0]),
    )
