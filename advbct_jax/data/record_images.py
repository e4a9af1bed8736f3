"""Images that are read out of TFDS' ArrayRecord files, without TensorFlow."""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any

from advbct_jax.errors import InputError, brief, brief_reason
from advbct_jax.typed_json import read_json

# Of the records' format; it is the name of the folder that they lie in.
VERSION = '1.0.0'

_FEATURES = 'tensorflow_datasets.core.features.'


def records_folder(root: pathlib.Path, builder: str) -> pathlib.Path:
  """Where the records of a data set lie.

  Args:
    root: the folder that was prepared.
    builder: the name of the TFDS builder, `gldv2` or `revisited`.

  Returns:
    The folder; it need not exist.
  """
  return root / builder / VERSION


@dataclasses.dataclass(frozen=True, eq=False)
class RecordImages:
  """Encoded images in the records of one split.

  Files are opened when the first image is read, in each process anew, so that
  worker processes can be handed an unopened copy.

  Attributes:
    folder: the folder of the records.
    split: the split.
    ids: [N] the image ids in the order of the records.
  """

  folder: pathlib.Path
  split: str
  ids: Sequence[str]

  def __len__(self) -> int:
    return len(self.ids)

  def __getitem__(self, index: int) -> bytes:
    try:
      record = self._records[index]
      # What lies behind the end of a file cut short is read as nothing.
      if record['id'] is None:
        raise ValueError('it is empty')
    except (OSError, RuntimeError, ValueError) as error:
      raise InputError(
        f'{self.where(index)}: cannot read the record ({error}). A file of '
        'this folder is missing or damaged; prepare the records again.'
      ) from error
    found = record['id'].decode()
    if found != self.ids[index]:
      raise InputError(
        f'{self.where(index)}: found the image {found}. The tables beside the '
        'records have changed; prepare the records again.'
      )
    return record['image']

  def where(self, index: int) -> str:
    """The folder, the split and the place of one record."""
    return f'{self.folder}, {self.split} record {index} ({self.ids[index]})'

  def __getstate__(self) -> dict[str, Any]:
    return {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
    }

  @functools.cached_property
  def _records(self) -> Sequence[dict[str, bytes]]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(self.folder)
    return builder.as_data_source(
      self.split, decoders={'image': tfds.decode.SkipDecoding()}
    )


def _require_known_features(path: pathlib.Path) -> None:
  """Refuses features that TFDS doesn't come with.

  It imports whatever module a description names for one of the classes, which
  would run the code of a module that lies beside.
  """
  unseen = [read_json(path)]
  while unseen:
    found = unseen.pop()
    if isinstance(found, list):
      unseen += found
    elif isinstance(found, dict):
      unseen += found.values()
      for name in ('pythonClassName', 'python_class_name', 'type'):
        named = found.get(name, _FEATURES)
        if isinstance(named, str) and not named.startswith(_FEATURES):
          raise ValueError(f'{path.name} asks for {brief(named)}')


def open_records(
  folder: pathlib.Path, split: str, ids: Sequence[str]
) -> RecordImages:
  """Opens the records of a split.

  Args:
    folder: the folder of the records.
    split: the split.
    ids: [N] the image ids in the order of the records.

  Returns:
    The N images.

  Raises:
    InputError: if the folder holds no records, not this split, or another
      number of images.
  """
  # Here, for it takes a second, which whoever has no records need not wait.
  import tensorflow_datasets as tfds

  try:
    _require_known_features(folder / 'features.json')
    splits = tfds.builder_from_directory(folder).info.splits
  # A description that is damaged can raise nearly anything.
  except Exception as error:
    raise InputError(
      f'{folder}: holds no whole records ({brief_reason(error)}). Prepare them '
      'again.'
    ) from error
  # Their number is in the description; the ids are compared one by one when an
  # image is read, for to read them all would be to read all the records.
  found = splits[split].num_examples if split in splits else 0
  if found != len(ids):
    raise InputError(
      f'{folder}: found {found} {split} images, wanted the {len(ids)} of the '
      'tables beside it. The tables have changed; prepare the records again.'
    )
  return RecordImages(folder, split, ids)
