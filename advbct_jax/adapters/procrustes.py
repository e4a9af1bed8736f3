"""The rotation that brings new vectors nearest to old ones.

It turns the new space as a whole, so that mapped vectors are as like each other
as they were before: old and new, and all of a gallery while it is re-embedded,
live in one space.

References:
  Schönemann, "A generalized solution of the orthogonal Procrustes problem",
  Psychometrika 1966.
"""

import itertools

import numpy as np

from advbct_jax.adapters.pairs import FORWARD, Pairs
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError

_SHRINKAGES = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_FOLDS = 3


def procrustes_rotation(new: np.ndarray, old: np.ndarray) -> np.ndarray:
  """Finds the orthogonal map (a reflection may be in it) of new to old vectors.

  It is the R with RᵀR = I that has the least Σ‖f̂R − ô‖², where ô, narrower than
  f̂, is filled up with zeros. Then the first D_old components of f̂R are those
  to compare with ô.

  Args:
    new: [N, D] new embeddings, of any length.
    old: [N, D_old] old embeddings of the same images, D_old ≤ D.

  Returns:
    [D, D] float64; a row vector is multiplied from the left, f̂R.

  Raises:
    InputError: if the old embeddings are wider than the new ones.

  >>> turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
  >>> new = np.array([[1.0, 0.0], [0.6, 0.8]])
  >>> procrustes_rotation(new, new @ turn).round(6) + 0.0
  array([[ 0.,  1.],
         [-1.,  0.]])
  """
  cross = unit_rows(new).T @ unit_rows(old)
  require_widths(*cross.shape)
  return nearest_rotation(cross)


def fit(
  pairs: Pairs,
  seed: int,
  *,
  shrinkage: float | None = None,
  prior: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
  """Finds the rotation from sums over all pairs.

  Few pairs say nothing of most directions. The rotation is then drawn towards
  one that is known before, P, as if s·N/D more pairs agreed in each direction:
  it is the nearest to Σ xᵀy + s·N/D·P.

  Args:
    pairs: N pairs of width D and D_target, backward D_target ≤ D.
    seed: of the folds that choose s.
    shrinkage: s; None chooses it by cross-validation of the mean cosine where
      there are fewer pairs than components or a prior, and else takes 0.
    prior: P [D, D_target or D], such as an earlier rotation; None for the
      identity, between equal widths.

  Returns:
    `rotation` [D, D], or [D, D_target] where the target is wider.

  Raises:
    InputError: if backward the target is wider, if the shrinkage is below zero,
      or if there is nothing to shrink towards.
  """
  width, target_width = pairs.width, pairs.target_width
  check_widths(width, target_width, pairs.direction)
  if shrinkage is not None and not 0 <= shrinkage < np.inf:
    raise InputError(
      f'procrustes: a shrinkage of {shrinkage} was asked for; wanted: a number '
      'of at least 0, or none to have it chosen.'
    )
  if shrinkage is None and prior is None and not pairs.few:
    shrinkage = 0.0
  if shrinkage != 0 and prior is None:
    prior = _identity(pairs)
  folds = np.zeros(pairs.new.card.count, int)
  if shrinkage is None:
    folds = np.random.default_rng(seed).integers(0, _FOLDS, len(folds))
  crosses = np.zeros((_FOLDS if shrinkage is None else 1, width, target_width))
  for rows, source, target in pairs.chunks():
    for fold, cross in enumerate(crosses):
      mine = folds[rows] == fold
      # A mask copies, which a million pairs of one fold can do without.
      if mine.all():
        cross += source.T @ target
      else:
        cross += source[mine].T @ target[mine]
  cross = crosses.sum(axis=0)
  if prior is not None:
    toward = prior[:, :target_width] * (len(pairs) / width)
    if shrinkage is None:
      shrinkage = _choose_shrinkage(crosses, toward)
    cross += shrinkage * toward
  return {'rotation': nearest_rotation(cross).astype(np.float32)}


def apply(parameters: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
  """Turns vectors.

  Args:
    parameters: from `fit`.
    vectors: [N, D] unit vectors.

  Returns:
    [N, D], of which the first D_target components compare with target vectors,
    or [N, D_target] where these are wider.
  """
  return vectors @ parameters['rotation']


def require_widths(width: int, old_width: int) -> None:
  """Refuses to turn narrow vectors into a wider space.

  Args:
    width: D, of the new vectors.
    old_width: D_old.

  Raises:
    InputError: if the old embeddings are wider than the new ones.
  """
  if old_width > width:
    raise InputError(
      f'procrustes: new vectors of width {width} cannot be turned into a space '
      f'of {old_width} dimensions. Take ridge or residual_mlp, which map from '
      'any width to any.'
    )


def check_widths(width: int, target_width: int, direction: str) -> None:
  """Refuses widths that a rotation of a direction cannot bring together.

  Forward, old vectors that are narrower lie in a subspace of the new space, at
  their own angles. Backward this is refused: a query in a subspace would
  compare with a part of an old vector.

  Args:
    width: D, of source vectors.
    target_width: of target vectors.
    direction: `backward` or `forward`.

  Raises:
    InputError: if the target is wider, backward.
  """
  if direction != FORWARD:
    require_widths(width, target_width)


def nearest_rotation(cross: np.ndarray) -> np.ndarray:
  """The orthogonal factor of Σ xᵀy.

  Args:
    cross: [D, D_target], filled up with zeros to [D, D] where it is narrower.

  Returns:
    [D, D] orthogonal, or [D, D_target] with orthonormal rows where the target
    is wider.
  """
  width, target_width = cross.shape
  square = np.zeros((width, max(width, target_width)), cross.dtype)
  square[:, :target_width] = cross
  left, _, right = np.linalg.svd(square, full_matrices=False)
  return left @ right


def _identity(pairs: Pairs) -> np.ndarray:
  """The map [D, D] that changes nothing."""
  if pairs.width != pairs.target_width:
    raise InputError(
      f'procrustes: {pairs.describe_count()} are too few for a rotation of '
      f'{pairs.width} components, and between widths {pairs.width} and '
      f'{pairs.target_width} there is no identity to shrink it towards. '
      f'Wanted: {pairs.width} or more, better many times as many, or an '
      'earlier adapter between the two as the prior; or take ridge.'
    )
  return np.eye(pairs.width)


def _choose_shrinkage(crosses: np.ndarray, toward: np.ndarray) -> float:
  """The shrinkage whose rotations agree best with what they were not fitted to.

  Args:
    crosses: [F, D, D_target] Σ xᵀy of each fold.
    toward: [D, D_target] P·N/D.
  """
  # A choice needs no more, and the rotation itself is found in float64.
  crosses = crosses.astype(np.float32)
  whole = crosses.sum(axis=0)
  share = (len(crosses) - 1) / len(crosses)
  scores = dict.fromkeys(_SHRINKAGES, 0.0)
  for shrinkage, cross in itertools.product(_SHRINKAGES, crosses):
    drawn = whole - cross + np.float32(shrinkage * share) * toward
    rotation = nearest_rotation(drawn.astype(np.float32))
    # The sum of the cosines of the fold's mapped and target vectors.
    scores[shrinkage] += float(np.sum(rotation[:, : cross.shape[1]] * cross))
  return max(scores, key=scores.__getitem__)
