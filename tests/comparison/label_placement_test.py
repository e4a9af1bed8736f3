import itertools

import numpy as np

from advbct_jax.comparison.label_placement import place_labels

_WINDOW = (0.0, 0.0, 800.0, 600.0)
_SIZE = np.array([60.0, 12.0])


def _boxes(centres):
  return [(*(c - _SIZE / 2), *(c + _SIZE / 2)) for c in centres]


def _meet(one, other):
  return min(one[2], other[2]) > max(one[0], other[0]) and min(
    one[3], other[3]
  ) > max(one[1], other[1])


def _place(anchors, obstacles=()):
  anchors = np.asarray(anchors, float)
  return place_labels(
    anchors, np.tile(_SIZE, (len(anchors), 1)), obstacles, _WINDOW
  )


def test_labels_of_a_crowd_lie_on_neither_each_other_nor_a_marker():
  anchors = [(400 + 22 * i, 300 + 11 * (i % 3)) for i in range(8)]
  markers = [(x - 6, y - 6, x + 6, y + 6) for x, y in anchors]

  boxes = _boxes(_place(anchors, markers))

  assert not any(_meet(a, b) for a, b in itertools.combinations(boxes, 2))
  assert not any(_meet(a, b) for a in boxes for b in markers)


def test_a_label_at_the_edge_stays_inside():
  for box in _boxes(_place([(799, 300), (1, 300), (400, 599), (400, 1)])):
    assert min(box[:2]) >= 0
    assert box[2] <= 800
    assert box[3] <= 600


def test_a_label_stays_near_where_nothing_is_in_its_way():
  ((x, y),) = _place([(400, 300)])

  assert np.hypot(x - 400, y - 300) < 45
