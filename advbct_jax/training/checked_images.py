"""The training images of a config, less what a check found wrong with them."""

import collections
from collections.abc import Sequence
import dataclasses
import pathlib

import ml_collections
import numpy as np

from advbct_jax.data import gldv2
from advbct_jax.data.images import ImageSet
from advbct_jax.data.problem_tables import (
  DUPLICATE,
  NEAR_DUPLICATE,
  UNREADABLE,
  Problem,
  read_problems,
)
from advbct_jax.errors import InputError
from advbct_jax.processes import say

STOP, SKIP = 'stop', 'skip'

_PART = 'train'
_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True)
class CheckedImages:
  """Training images, and which of them may be trained on.

  Attributes:
    image_set: N images; those that cannot be read are not among them.
    usable: [N] bool, which of them may be trained on.
  """

  image_set: ImageSet
  usable: np.ndarray


def load_checked_images(config: ml_collections.ConfigDict) -> CheckedImages:
  """Loads the training images of a config as its table of problems wants it.

  Whatever is left out but unreadable keeps its row, so that stores of
  embeddings are the same with and without the table. An unreadable image can
  have no embedding, nor then a row.

  Args:
    config: of an experiment.

  Raises:
    InputError: if a table is malformed, or of other images; or if it has
      problems and `config.data.on_problem` says to stop.
  """
  data = config.data
  image_set = dataclasses.replace(
    gldv2.load_train(pathlib.Path(data.root), data.name),
    max_pixels=data.max_pixels,
  )
  usable = np.ones(len(image_set), bool)
  if not data.checked:
    return CheckedImages(image_set, usable)
  path = pathlib.Path(data.checked)
  problems = [
    found
    for found in read_problems(path)
    if found.part == _PART and found.problem in data.problems
  ]
  if problems and data.on_problem == STOP:
    raise InputError(
      f'{path}: {_count(problems)} among the {len(image_set)} images of '
      f'{image_set.name}:\n  '
      + '\n  '.join(
        ' '.join(filter(None, (it.id, it.problem, it.other, it.detail)))
        for it in problems[:_MOST_NAMED]
      )
      + ('\n  …' if len(problems) > _MOST_NAMED else '')
      + '\nMend the data and check them again, or leave these out: '
      f'--config.data.on_problem={SKIP}.'
    )
  row_of = {image_id: row for row, image_id in enumerate(image_set.ids)}
  skipped = [it for it in problems if _is_left_out(path, it, image_set, row_of)]
  if skipped:
    say(f'{image_set.name}: left out by {path}: {_count(skipped)}')
  usable[[row_of[found.id] for found in skipped]] = False
  readable = np.ones(len(image_set), bool)
  readable[
    [row_of[found.id] for found in skipped if found.problem == UNREADABLE]
  ] = False
  if readable.all():
    return CheckedImages(image_set, usable)
  return CheckedImages(
    image_set.take(np.flatnonzero(readable)), usable[readable]
  )


def _is_left_out(
  path: pathlib.Path,
  found: Problem,
  image_set: ImageSet,
  row_of: dict[str, int],
) -> bool:
  """Whether a problem takes an image out of the training.

  Two images of different classes that are the same both stay: nobody knows
  which of the two is right.
  """
  ids = [found.id]
  same = found.problem in (DUPLICATE, NEAR_DUPLICATE)
  if same:
    ids.append(found.other.removeprefix(f'{_PART}/'))
  for image_id in ids:
    if image_id not in row_of:
      raise InputError(
        f'{path}: it names the image {image_id!r}, which {image_set.name} does '
        'not have. Check this data set anew: advbct prepare check.'
      )
  assert image_set.labels is not None
  labels = image_set.labels[[row_of[image_id] for image_id in ids]]
  return bool((labels == labels[0]).all())


def _count(problems: Sequence[Problem]) -> str:
  """How many there are of each kind."""
  counts = collections.Counter(found.problem for found in problems)
  return ', '.join(f'{count} {problem}' for problem, count in counts.items())
