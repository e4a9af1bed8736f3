"""What is known of things that both encoders have embedded.

Pairs come from the training images and, as the refresh goes on, from the
gallery itself. They are kept as sums of outer products, whose size doesn't grow
with their number, and as a sample of bounded size.
"""

from collections.abc import Iterable, Iterator
import dataclasses
import functools
import json
import pathlib
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError
import safetensors.numpy

from advbct_jax.adapters import ridge
from advbct_jax.atomic_files import write_text
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError, brief
from advbct_jax.refresh.predictor import (
  Predictor,
  PrincipalMaps,
  fit_predictor,
  fit_principal_maps,
)
from advbct_jax.refresh.rotation import fit_rotation
from advbct_jax.typed_json import parse_fields

# How much more a pair of the gallery counts than one of the training images:
# what is searched are things like it. 16 and 64 do alike on photographs and
# texts, 4 is worse.
GALLERY_WEIGHT = 64.0

FOLDS = 4
_SAMPLE = 2048
# Pairs that are taken up at a time. What is made of so few fits into memory
# that was used just before, which is faster than to ask for more; adding up the
# products of fewer would cost as much as the products.
_BLOCK = 8192
_ENOUGH = 1000  # held-out pairs; each fold costs fits of its own
_CLUSTERS = 20
_CLUSTER_ROUNDS = 10

Vectors = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Group:
  """Pairs of one origin: of the training images, or of the gallery.

  Attributes:
    sums: of each fold, over old unit vectors x and new ones y.
    old: [S, D_old] the old unit vectors of a sample.
    new: [S, D] the new ones.
    fold: [S] the fold of each.
    priority: [S] uint64; the pairs with the smallest are the sample.
  """

  sums: tuple[ridge.Sums, ...]
  old: np.ndarray
  new: np.ndarray
  fold: np.ndarray
  priority: np.ndarray

  @classmethod
  def empty(cls, old_width: int, new_width: int) -> Self:
    """No pairs of vectors of two widths."""
    old = np.zeros((0, old_width), np.float32)
    new = np.zeros((0, new_width), np.float32)
    nothing = ridge.Sums.of(old, new)
    fold = np.zeros(0, np.int64)
    return cls((nothing,) * FOLDS, old, new, fold, fold.astype(np.uint64))

  @property
  def count(self) -> int:
    """How many pairs there are."""
    return int(sum(one.count for one in self.sums))

  @functools.cached_property
  def total(self) -> ridge.Sums:
    """The sums over all folds."""
    first, *others = self.sums
    return sum(others, first)

  def add(self, old: np.ndarray, new: np.ndarray, fold: np.ndarray) -> Self:
    """The group with further pairs.

    Args:
      old: [n, D_old] unit vectors.
      new: [n, D] of the same things.
      fold: [n] from 0 to FOLDS − 1.
    """
    priority = _priorities(self.count, len(old))
    first = np.argsort(
      np.concatenate([self.priority, priority]), kind='stable'
    )[:_SAMPLE]
    sums = tuple(
      one + ridge.Sums.of(old[fold == number], new[fold == number])
      for number, one in enumerate(self.sums)
    )
    return type(self)(
      sums,
      np.concatenate([self.old, old])[first],
      np.concatenate([self.new, new])[first],
      np.concatenate([self.fold, fold])[first],
      np.concatenate([self.priority, priority])[first],
    )

  def without(self, fold: int) -> Self:
    """The group without the pairs of one fold."""
    nothing = ridge.Sums.of(self.old[:0], self.new[:0])
    kept = self.fold != fold
    return type(self)(
      tuple(
        nothing if number == fold else one
        for number, one in enumerate(self.sums)
      ),
      self.old[kept],
      self.new[kept],
      self.fold[kept],
      self.priority[kept],
    )


@dataclasses.dataclass(frozen=True)
class KnownPairs:
  """All pairs known so far.

  Attributes:
    training: of the training images; folds are clusters of them, so that what
      is held out is of classes that nothing else is of.
    gallery: of re-embedded things of the gallery; folds are at random.
    gallery_size: how many things the gallery has.
    encoders: the identities of the `old` and the `new` encoder, as their
      stores' cards have them; empty where nobody says.
  """

  training: Group
  gallery: Group
  gallery_size: int
  encoders: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def share(self) -> float:
    """Which part of the gallery is re-embedded, from 0 to 1."""
    return self.gallery.count / max(self.gallery_size, 1)

  @property
  def count(self) -> int:
    """How many pairs are known."""
    return self.training.count + self.gallery.count

  def add(self, old: np.ndarray, new: np.ndarray) -> Self:
    """What is known once more of the gallery is re-embedded.

    Args:
      old: [n, D_old] vectors of any length.
      new: [n, D] of the same things; those with a zero vector are left out.
    """
    gallery = self.gallery
    for old_block, new_block in _directed_blocks(old, new):
      fold = (gallery.count + np.arange(len(old_block))) % FOLDS
      gallery = gallery.add(old_block, new_block, fold)
    return dataclasses.replace(self, gallery=gallery)

  @functools.cached_property
  def sums(self) -> ridge.Sums:
    """The sums over all pairs, those of the gallery weighing more."""
    return self.training.total + self.gallery.total.scaled(GALLERY_WEIGHT)

  @functools.cached_property
  def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Old and new unit vectors of a sample of pairs, and their weights.

    Returns:
      [S, D_old], [S, D] and [S], which is 1 in sum.
    """
    groups = ((self.training, 1.0), (self.gallery, GALLERY_WEIGHT))
    weights = [
      np.full(len(group.old), weight * group.count / max(len(group.old), 1))
      for group, weight in groups
    ]
    joined = np.concatenate(weights)
    return (
      np.concatenate([self.training.old, self.gallery.old]),
      np.concatenate([self.training.new, self.gallery.new]),
      joined / max(joined.sum(), 1e-12),
    )

  def predictor(self, penalty: float) -> Predictor:
    """The ridge map of old vectors to new ones; computed once for a penalty.

    Args:
      penalty: in parts of the mean variance of an old component.

    Raises:
      InputError: if the penalty is not above zero.
    """
    fitted = self._predictors
    if penalty not in fitted:
      fitted[penalty] = fit_predictor(self.sums, penalty)
    return fitted[penalty]

  @functools.cached_property
  def rotation(self) -> np.ndarray:
    """[D, D_old] of new vectors onto old ones; see `fit_rotation`."""
    return fit_rotation(self.sums)

  @functools.cached_property
  def principal_maps(self) -> PrincipalMaps:
    """What ridge maps of all penalties are made of."""
    return fit_principal_maps(self.sums)

  @functools.cached_property
  def _predictors(self) -> dict[float, Predictor]:
    return {}

  @property
  def gallery_is_known(self) -> bool:
    """Whether enough of the gallery is re-embedded to judge policies by it."""
    return len(self.gallery.old) >= 15 * FOLDS

  @functools.cached_property
  def held_out(self) -> list[tuple['KnownPairs', Vectors]]:
    """The pairs without a fold, and a sample of the fold, for each fold.

    Once there are enough, it is the gallery's own pairs that are held out:
    among them is what its other things will be like. Before, clusters of
    training images are, of which, as of the gallery, no class is known. It
    ends when so many were held out that more would tell little.

    A sample is old [S, D_old] and new [S, D] unit vectors.
    """
    name = 'gallery' if self.gallery_is_known else 'training'
    group: Group = getattr(self, name)
    split: list[tuple[KnownPairs, Vectors]] = []
    seen = 0
    for fold in range(FOLDS):
      if seen >= _ENOUGH:
        break
      others: dict[str, Any] = {name: group.without(fold)}
      taken = group.fold == fold
      seen += int(taken.sum())
      known = dataclasses.replace(self, **others)
      split.append((known, (group.old[taken], group.new[taken])))
    return split


def know_training_pairs(
  chunks: Iterable[Vectors],
  widths: tuple[int, int],
  gallery_size: int,
  encoders: dict[str, Any] | None = None,
) -> KnownPairs:
  """Takes up what both encoders said about the training images.

  Args:
    chunks: old [n, D_old] and new [n, D] vectors of any length of the same
      things; those with a zero vector are left out. May be empty.
    widths: D_old and D.
    gallery_size: how many things the gallery has.
    encoders: the identities of the `old` and the `new` encoder.

  Raises:
    InputError: if vectors are of other widths.
  """
  training = Group.empty(*widths)
  centres = None
  for old, new in chunks:
    if (old.shape[1], new.shape[1]) != widths:
      raise InputError(
        f'pairs: old and new vectors of widths {old.shape[1]} and '
        f'{new.shape[1]}; wanted: {widths[0]} and {widths[1]}, as the gallery '
        'has. Name stores of the same two encoders.'
      )
    if centres is None:
      first, _ = _directed(old, new)
      if not len(first):
        continue
      centres = cluster(first, _CLUSTERS)
    for old_block, new_block in _directed_blocks(old, new):
      fold = np.argmax(old_block @ centres.T, axis=1) % FOLDS
      training = training.add(old_block, new_block, fold)
  gallery = Group.empty(*widths)
  return KnownPairs(training, gallery, gallery_size, encoders or {})


def save_pairs(pairs: KnownPairs, folder: pathlib.Path | str) -> None:
  """Writes what is known to `card.json` and `sums.safetensors`.

  Args:
    pairs: what is known.
    folder: where to; what is there of an earlier state is replaced.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  arrays = {}
  for name in ('training', 'gallery'):
    group = getattr(pairs, name)
    for field in ('old', 'new', 'fold', 'priority'):
      arrays[f'{name}/{field}'] = np.ascontiguousarray(getattr(group, field))
    for fold, sums in enumerate(group.sums):
      for field, value in dataclasses.asdict(sums).items():
        arrays[f'{name}/{fold}/{field}'] = np.asarray(value, np.float64)
  # One file with everything: a kill leaves the earlier state or this one.
  card = {'gallery_size': pairs.gallery_size, 'encoders': pairs.encoders}
  unfinished = folder / 'sums.safetensors.unfinished'
  safetensors.numpy.save_file(
    arrays, unfinished, metadata={'card': json.dumps(card)}
  )
  unfinished.replace(folder / 'sums.safetensors')
  described = card | {
    'training_pairs': pairs.training.count,
    'gallery_pairs': pairs.gallery.count,
  }
  write_text(folder / 'card.json', json.dumps(described, indent=2) + '\n')


@dataclasses.dataclass(frozen=True)
class _Card:
  """What `sums.safetensors` says besides its arrays."""

  gallery_size: int
  encoders: dict[str, Any]


def load_pairs(
  folder: pathlib.Path | str, encoders: dict[str, Any] | None = None
) -> KnownPairs:
  """Reads what `save_pairs` wrote.

  Args:
    folder: where it lies.
    encoders: the identities that the encoders must have, where they are known.

  Raises:
    InputError: if there is nothing, it is damaged, or it is of other encoders.
  """
  path = pathlib.Path(folder) / 'sums.safetensors'
  try:
    with safetensors.safe_open(path, 'numpy') as file:
      card = parse_fields(_Card, file.metadata()['card'])
      arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    groups = {
      name: _read_group(arrays, name) for name in ('training', 'gallery')
    }
  except (
    OSError,
    SafetensorError,
    KeyError,
    TypeError,
    ValueError,
    IndexError,  # of an array without axes
    OverflowError,  # of an infinite count
  ) as error:
    raise InputError(
      f'{path}: no pairs can be read from here ({brief(error)}). Wanted: what '
      'was saved of a refresh; begin it again from its stores.'
    ) from error
  if encoders and (
    differing := [
      f'{side}: {brief(card.encoders.get(side))} there, {encoders[side]} here'
      for side in encoders
      if card.encoders.get(side) != encoders[side]
    ]
  ):
    raise InputError(
      f'{folder}: pairs of other encoders:\n  '
      + '\n  '.join(differing)
      + "\nVectors of two encoders don't compare, whatever they are called. "
      'Begin anew from stores of these.'
    )
  return KnownPairs(
    groups['training'],
    groups['gallery'],
    card.gallery_size,
    card.encoders,
  )


def _read_group(arrays: dict[str, np.ndarray], name: str) -> Group:
  sums = []
  for fold in range(FOLDS):
    fields = {
      field.name: arrays[f'{name}/{fold}/{field.name}']
      for field in dataclasses.fields(ridge.Sums)
    }
    count, squares = int(fields.pop('count')), float(fields.pop('yy'))
    sums.append(ridge.Sums(count=count, yy=squares, **fields))
  old, new = arrays[f'{name}/old'], arrays[f'{name}/new']
  size, (D, E) = len(old), (old.shape[-1], new.shape[-1])
  for one in sums:
    _require_shapes((one.x, D), (one.y, E), (one.xx, D, D), (one.xy, D, E))
  of_each = [arrays[f'{name}/{field}'] for field in ('fold', 'priority')]
  _require_shapes((old, size, D), (new, size, E), *((a, size) for a in of_each))
  return Group(
    tuple(sums),
    *(
      arrays[f'{name}/{field}'] for field in ('old', 'new', 'fold', 'priority')
    ),
  )


def _require_shapes(*wanted: tuple[Any, ...]) -> None:
  """Refuses arrays that don't have the shapes behind them."""
  for array, *shape in wanted:
    if array.shape != tuple(shape):
      raise ValueError(f'an array of shape {array.shape}, wanted {shape}')


def _directed(old: np.ndarray, new: np.ndarray) -> Vectors:
  """Unit vectors of the things of which neither vector is all zero."""
  kept = old.any(axis=1) & new.any(axis=1)
  if not kept.all():  # Else nothing need be copied.
    old, new = old[kept], new[kept]
  old, new = (unit_rows(np.asarray(rows, np.float32)) for rows in (old, new))
  return old, new


def _directed_blocks(old: np.ndarray, new: np.ndarray) -> Iterator[Vectors]:
  """The same, some at a time."""
  for start in range(0, len(old), _BLOCK):
    block = slice(start, start + _BLOCK)
    yield _directed(old[block], new[block])


def cluster(rows: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
  """Spherical k-means on at most 10,000 of the rows.

  Args:
    rows: [N, D] unit vectors, at least one.
    count: how many clusters.
    seed: of the rows that it starts from.

  Returns:
    [min(count, N), D] unit centres.
  """
  random = np.random.default_rng(seed)
  rows = rows[:: max(len(rows) // 10_000, 1)]
  count = min(count, len(rows))
  centres = rows[np.sort(random.choice(len(rows), count, replace=False))]
  for _ in range(_CLUSTER_ROUNDS):
    nearest = np.argmax(rows @ centres.T, axis=1)
    sums = np.zeros_like(centres)
    np.add.at(sums, nearest, rows)
    # A centre that nothing is near to stays where it is.
    filled = np.bincount(nearest, minlength=count) > 0
    centres = unit_rows(np.where(filled[:, None], sums, centres))
  return centres


def _priorities(first: int, count: int) -> np.ndarray:
  """Pseudo-random numbers of the pairs first, first + 1, …, whatever chunks.

  Those of a pair don't depend on what came in one call with it, so neither does
  the sample. (Steele et al., "Fast splittable pseudorandom number generators",
  OOPSLA 2014.)
  """
  step, one, two = (
    np.uint64(number)
    for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
  )
  with np.errstate(over='ignore'):
    mixed = (
      np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)
    ) * step
    mixed = (mixed ^ (mixed >> np.uint64(30))) * one
    mixed = (mixed ^ (mixed >> np.uint64(27))) * two
  return mixed ^ (mixed >> np.uint64(31))
