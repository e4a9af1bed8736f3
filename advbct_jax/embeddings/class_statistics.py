"""What the old model's embeddings say about its classes."""

from flax import struct
import numpy as np

from advbct_jax.embeddings.unit_vectors import unit_rows

# Rows normalised at a time: 64 MiB at 256 float32 a row.
_BLOCK_ROWS = 65536


@struct.dataclass
class ClassStatistics:
  """Centre and extent of each old class on the unit sphere.

  Radii are Euclidean distances ‖ô − c‖, thetas angles in radians between ô and
  c. Both are taken after outliers are dropped, each by its own quartiles.

  Attributes:
    center: [C_old, D] means of the normalised embeddings.
    radius_max: [C_old] the largest kept radius.
    radius_min: [C_old] the smallest kept radius.
    radius_count: [C_old] how many radii were kept.
    theta_max: [C_old] the largest kept angle.
    theta_count: [C_old] how many angles were kept.
  """

  center: np.ndarray
  radius_max: np.ndarray
  radius_min: np.ndarray
  radius_count: np.ndarray
  theta_max: np.ndarray
  theta_count: np.ndarray


def class_statistics(
  embeddings: np.ndarray, labels: np.ndarray, classes: int
) -> ClassStatistics:
  """Measures the old classes.

  With four members or more, a class drops those outside
  [q1 − 1.5·IQR, q3 + 1.5·IQR], where q1 and q3 are the sorted values at ⌊n/4⌋
  and ⌊3n/4⌋.

  Args:
    embeddings: [N, D] old embeddings, not normalised.
    labels: [N] old classes, −1 for images to leave out.
    classes: the number C_old of old classes.

  Returns:
    The statistics; a class without any member has zeros and counts of 0.

  References:
    Pan et al., "Boundary-aware backward-compatible representation via
    adversarial learning in image retrieval", CVPR 2023.
  """
  members = np.flatnonzero(labels >= 0)
  members = members[np.argsort(labels[members], kind='stable')]
  labels = labels[members]
  blocks = [
    slice(start, start + _BLOCK_ROWS)
    for start in range(0, len(members), _BLOCK_ROWS)
  ]
  counts = np.bincount(labels, minlength=classes)
  total = np.zeros((classes, embeddings.shape[1]))
  for block in blocks:
    # Members are grouped by class, so a class is a run of rows.
    first = np.flatnonzero(np.diff(labels[block], prepend=-1))
    unit = unit_rows(embeddings[members[block]])
    total[labels[block][first]] += np.add.reduceat(unit, first, axis=0)
  center = (total / np.maximum(counts, 1)[:, None]).astype(np.float32)

  center_unit = unit_rows(center)
  radius = np.empty(len(members), np.float32)
  theta = np.empty(len(members), np.float32)
  for block in blocks:
    unit = unit_rows(embeddings[members[block]])
    radius[block] = np.linalg.norm(unit - center[labels[block]], axis=1)
    # arccos of a dot product loses half its digits at small angles.
    chord = np.linalg.norm(unit - center_unit[labels[block]], axis=1)
    theta[block] = 2 * np.arcsin(np.minimum(chord / 2, 1))
  radius_min, radius_max, radius_count = _extent(radius, labels, counts)
  _, theta_max, theta_count = _extent(theta, labels, counts)
  return ClassStatistics(
    center, radius_max, radius_min, radius_count, theta_max, theta_count
  )


def _extent(
  values: np.ndarray, labels: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Smallest, largest and number of the values of each class, outliers out.

  Args:
    values: [N] values, grouped by class.
    labels: [N] ascending classes.
    counts: [C] values in each class.
  """
  values = values[np.lexsort((values, labels))]
  start = np.cumsum(counts) - counts
  # A class without members has no quartiles; any valid position will do.
  last = max(len(values) - 1, 0)
  q1 = values[np.minimum(start + counts // 4, last)] if len(values) else 0.0
  q3 = values[np.minimum(start + 3 * counts // 4, last)] if len(values) else 0.0
  reach = 1.5 * (q3 - q1)
  low = np.where(counts < 4, -np.inf, q1 - reach)
  high = np.where(counts < 4, np.inf, q3 + reach)
  kept = (values >= low[labels]) & (values <= high[labels])
  kept_count = np.bincount(labels[kept], minlength=len(counts))
  kept |= (kept_count == 0)[labels]
  values, labels = values[kept], labels[kept]
  kept_count = np.bincount(labels, minlength=len(counts))
  smallest = np.full(len(counts), np.inf, np.float32)
  largest = np.zeros(len(counts), np.float32)
  np.minimum.at(smallest, labels, values)
  np.maximum.at(largest, labels, values)
  return (
    np.where(kept_count > 0, smallest, 0).astype(np.float32),
    largest,
    kept_count,
  )


def class_means(
  values: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray:
  """[C, D] float32 the mean of [N, D] values over each of C classes.

  A class without any has zeros.

  >>> class_means(np.array([[1.0], [3.0]]), np.array([1, 1]), 2).tolist()
  [[0.0], [2.0]]
  """
  total = np.zeros((classes, values.shape[1]))
  np.add.at(total, labels, values)
  counts = np.bincount(labels, minlength=classes)
  return (total / np.maximum(counts, 1)[:, None]).astype(np.float32)
