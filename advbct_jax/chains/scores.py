"""What the figures of a chain of upgrades come to.

T encoders give a matrix M [T, T]: M_ij is what the queries of encoder i reach
on the gallery of encoder j, in their order of time.
"""

import numpy as np


def average_compatibility(matrix: np.ndarray, *, strict: bool = True) -> float:
  """The share of upgrades that made no untouched gallery worse.

  AC = 1 − #{i > j: M_ij < M_jj} / (T(T − 1)/2).

  Args:
    matrix: [T, T] of T ≥ 2 encoders.
    strict: whether only what is worse than before counts against it. With
      False a tie does, too, as one published code has it.

  References:
    Biondi et al., CoReS, TPAMI 2023.

  >>> matrix = np.array([[50, 50, 10], [50, 60, 20], [45, 61, 70]])
  >>> round(average_compatibility(matrix), 3)
  0.667
  >>> round(average_compatibility(matrix, strict=False), 3)
  0.333
  """
  later, earlier = np.tril_indices(len(matrix), -1)
  crossed, before = matrix[later, earlier], matrix[earlier, earlier]
  worse = crossed < before if strict else crossed <= before
  return float(1 - worse.mean())


def average_accuracy(matrix: np.ndarray) -> float:
  """The mean figure of all encoders on their own and on earlier galleries.

  Args:
    matrix: [T, T].

  References:
    Biondi et al., CoReS, TPAMI 2023.

  >>> average_accuracy(np.array([[50, 0], [46, 60]]))
  52.0
  """
  return float(matrix[np.tril_indices(len(matrix))].mean())
