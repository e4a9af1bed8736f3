"""Where the labels of a scatter plot go, so that they can be read."""

from collections.abc import Sequence
import itertools
import math

import numpy as np

# Left, bottom, right, top.
Box = tuple[float, float, float, float]

_ANGLES = [math.radians(degrees) for degrees in range(0, 360, 15)]
# How far a label may be from its point, in points of type; a far one is worth
# it only where all near places cover something.
_DISTANCES = (9.0, 14.0, 21.0, 31.0, 44.0)
_SWEEPS = 4


def place_labels(
  anchors: np.ndarray,
  sizes: np.ndarray,
  obstacles: Sequence[Box],
  window: Box,
  unit: float = 1.0,
) -> np.ndarray:
  """Places each label beside its point, where it covers the least.

  Labels are placed in turn, and in a few more sweeps placed again, given where
  the others are by then.

  Args:
    anchors: (N, 2), the points, in pixels.
    sizes: (N, 2), width and height of the labels, in pixels.
    obstacles: what labels should not cover, in pixels.
    window: what labels should not leave, in pixels.
    unit: pixels in a point of type.

  Returns:
    (N, 2), the centres of the labels, in pixels.
  """
  blocked = np.asarray(obstacles, float).reshape(-1, 4)
  placed: list[Box | None] = [None] * len(anchors)
  for _, turn in itertools.product(range(_SWEEPS), range(len(anchors))):
    others = [
      box
      for place, box in enumerate(placed)
      if place != turn and box is not None
    ]
    labels = np.asarray(others, float).reshape(-1, 4)
    placed[turn] = min(
      _candidates(anchors[turn], sizes[turn], unit),
      # Two labels on each other are worse than a label on a line.
      key=lambda scored: (
        scored[0]
        + _overlap(scored[1], blocked)
        + 3 * _overlap(scored[1], labels)
        + 10 * _outside(scored[1], window)
      ),
    )[1]
  return np.array(
    [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in placed if b is not None]
  ).reshape(-1, 2)


def _candidates(
  anchor: np.ndarray, size: np.ndarray, unit: float
) -> list[tuple[float, Box]]:
  """Boxes around a point, each with the cost of its distance."""
  width, height = size
  found = []
  for distance, angle in itertools.product(_DISTANCES, _ANGLES):
    dx, dy = math.cos(angle), math.sin(angle)
    x = anchor[0] + dx * (width / 2 + distance * unit)
    y = anchor[1] + dy * (height / 2 + distance * unit)
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    # In pixels of area, as what is covered: a strip as high as the label.
    found.append((0.1 * (distance - _DISTANCES[0]) * unit * height, box))
  return found


def _overlap(box: Box, others: np.ndarray) -> float:
  wide = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
  high = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
  return float((np.maximum(wide, 0) * np.maximum(high, 0)).sum())


def _outside(box: Box, window: Box) -> float:
  area = (box[2] - box[0]) * (box[3] - box[1])
  return area - _overlap(box, np.asarray([window], float))
