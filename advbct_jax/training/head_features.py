"""Which stored features the head of a run takes.

What they are is noted in its workdir, `features.json`, so that a head can be
loaded, and vectors of another space be refused, where the features themselves
are not at hand.
"""

import json
import pathlib

import ml_collections

from advbct_jax.atomic_files import write_text
from advbct_jax.data.images import ImageSet
from advbct_jax.embeddings.features import StoredFeatures, find_features
from advbct_jax.errors import InputError
from advbct_jax.models.backbones import takes_features
from advbct_jax.typed_json import read_json

_NOTE = 'features.json'
_FIELDS = ('encoder', 'weights', 'dimension')
# Where sets that are too large for memory are laid out.
_FOLDER = 'features'


def find_run_features(
  workdir: pathlib.Path, config: ml_collections.ConfigDict, image_set: ImageSet
) -> StoredFeatures:
  """Finds the features that a config names.

  Args:
    workdir: of the run.
    config: of the run, whose architecture takes features.
    image_set: of the training.

  Raises:
    InputError: if there are none.
  """
  path = pathlib.Path(config.data.features)
  return find_features(path, image_set, workdir / _FOLDER)


def write_features(workdir: pathlib.Path, features: StoredFeatures) -> None:
  """Notes in a workdir which features its head takes."""
  note = {name: getattr(features, name) for name in _FIELDS}
  write_text(workdir / _NOTE, json.dumps(note, indent=2) + '\n')


def read_features(
  workdir: pathlib.Path, config: ml_collections.ConfigDict, path: str = ''
) -> StoredFeatures | None:
  """Which features the head of a run takes; None for an encoder of images.

  Args:
    workdir: of the run.
    config: of the run.
    path: where they lie now; '' for where they lay in training.

  Raises:
    InputError: if that was not noted, or the note is damaged.
  """
  if not takes_features(config.model.architecture):
    return None
  note = workdir / _NOTE
  try:
    found = read_json(note)
    return StoredFeatures(
      path=pathlib.Path(path or config.data.features),
      **{name: found[name] for name in _FIELDS},
      folder=workdir / _FOLDER,
    )
  except (OSError, ValueError, TypeError, KeyError) as error:
    raise InputError(
      f'{note}: cannot read which features this head takes ({error!r}). '
      'Restore the file, or run the training again.'
    ) from error
