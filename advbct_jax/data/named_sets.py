"""Data sets by the names that the command line has for them."""

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Literal

from advbct_jax.data import gldv2, revisited
from advbct_jax.data.decoding import MAX_PIXELS
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.data.images import ImageSet
from advbct_jax.errors import InputError

# Sets that are published in the Revisited layout alone. A folder in GLDv2's
# layout has no name of its own, so it would pass for them.
_REVISITED_ONLY = ('roxford5k', 'rparis6k')


@dataclasses.dataclass(frozen=True)
class DataFolder:
  """A data set that was found.

  Attributes:
    name: what it is called.
    layout: how the folder is laid out.
    root: the folder that the layout's loader takes.
  """

  name: str
  layout: Literal['gldv2', 'revisited']
  root: pathlib.Path


def open_retrieval_set(
  spec: str, data_root: str | None = None, crop_queries: bool = True
) -> RetrievalSet:
  """Loads a retrieval set, whichever layout it has.

  Args:
    spec: `NAME`, which lies in the data root or in its folder `NAME`, or
      `NAME:ROOT`.
    data_root: the data root; only `NAME` needs it.
    crop_queries: whether queries that have boxes are cropped to them.

  Returns:
    The retrieval set.

  Raises:
    InputError: if there is no such set, or it is malformed.
  """
  found = find_data(spec, data_root)
  if found.layout == 'revisited':
    return revisited.load_retrieval(found.root, found.name, crop_queries)
  return gldv2.load_retrieval(found.root, found.name)


def open_retrieval_sets(
  specs: Sequence[str],
  data_root: str | None,
  crop_queries: bool,
  max_pixels: int = MAX_PIXELS,
) -> list[RetrievalSet]:
  """Loads several retrieval sets; see `open_retrieval_set`.

  Their images may have `max_pixels`.
  """
  sets = [open_retrieval_set(spec, data_root, crop_queries) for spec in specs]
  return [
    dataclasses.replace(
      found,
      queries=dataclasses.replace(found.queries, max_pixels=max_pixels),
      gallery=dataclasses.replace(found.gallery, max_pixels=max_pixels),
    )
    for found in sets
  ]


def open_image_sets(
  found: DataFolder, max_pixels: int = MAX_PIXELS
) -> dict[str, ImageSet]:
  """Loads all images of a data set, trained on, searched and searched with.

  Args:
    found: the data set.
    max_pixels: how many pixels an image may have.

  Returns:
    Of GLDv2's layout `train`, `index`, and as `test` the queries that are not
    ignored, as far as it has their tables; of the Revisited one `gallery` and
    `queries`.

  Raises:
    InputError: if a table is malformed.
  """
  sets = {}
  if found.layout == 'revisited':
    retrieval_set = revisited.load_retrieval(found.root, found.name)
    sets['gallery'] = retrieval_set.gallery
    sets['queries'] = retrieval_set.queries
  else:
    if (found.root / gldv2.TRAIN_TABLE).is_file():
      sets['train'] = gldv2.load_train(found.root, found.name)
    if (found.root / gldv2.INDEX_TABLE).is_file():
      retrieval_set = gldv2.load_retrieval(found.root, found.name)
      sets |= {'index': retrieval_set.gallery, 'test': retrieval_set.queries}
  return {
    part: dataclasses.replace(image_set, max_pixels=max_pixels)
    for part, image_set in sets.items()
  }


def open_training_set(
  spec: str, data_root: str | None = None
) -> ImageSet | None:
  """Loads the training things that lie beside a retrieval set.

  Args:
    spec: as for `open_retrieval_set`.
    data_root: the data root; only `NAME` needs it.

  Returns:
    The training set, or None where there is none.

  Raises:
    InputError: if its table is malformed.
  """
  found = find_data(spec, data_root)
  if found.layout != 'gldv2' or not (found.root / gldv2.TRAIN_TABLE).is_file():
    return None
  return gldv2.load_train(found.root, found.name)


def find_data(spec: str, data_root: str | None = None) -> DataFolder:
  """Finds a data set and tells its layout by what lies in the folder.

  Args:
    spec: `NAME` or `NAME:ROOT`.
    data_root: the data root; only `NAME` needs it.

  Returns:
    Where it is, in which layout.

  Raises:
    InputError: if there is no such set; it lists the files looked for.
  """
  name, roots = _parse_spec(spec, data_root)
  looked_for: list[pathlib.Path] = []
  for root in roots:
    truths = revisited.ground_truth_paths(root, name)
    if any(path.is_file() for path in truths):
      return DataFolder(name, 'revisited', root)
    tables = [root / gldv2.INDEX_TABLE, root / gldv2.TRAIN_TABLE]
    if name in _REVISITED_ONLY:
      tables = []
    if any(path.is_file() for path in tables):
      return DataFolder(name, 'gldv2', root)
    looked_for += [*truths, *tables]
  raise InputError(
    f'data set {name}: found none of\n  '
    + '\n  '.join(map(str, dict.fromkeys(looked_for)))
    + '\nCheck the name and the folder, or write NAME:ROOT.'
  )


def _parse_spec(
  spec: str, data_root: str | None
) -> tuple[str, list[pathlib.Path]]:
  """The name of a data set, and the folders to look for it in."""
  name, colon, root = spec.partition(':')
  if not name or (colon and not root):
    raise InputError(
      f'data set {spec!r}: found no name or no folder, wanted NAME or '
      'NAME:ROOT.'
    )
  if root:
    return name, [pathlib.Path(root)]
  if data_root:
    return name, [pathlib.Path(data_root, name), pathlib.Path(data_root)]
  raise InputError(
    f'data set {name}: found no folder to look in. Write {name}:ROOT, or give '
    '--data_root.'
  )
