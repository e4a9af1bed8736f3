"""What a command has left, without what tells of time.

Records are compared as what they say: in which order protobuf writes the fields
of one is up to each process. Checkpoints and the chunks of stores are compared
by their arrays: Orbax's files of the same arrays differ in names and dates. Of
a run the newest checkpoint counts, since a signal saves one of its own.
"""

import hashlib
import json
import pathlib
from typing import Any

from array_record.python import array_record_module
import jax
import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from advbct_jax.embeddings.store import open_store
from advbct_jax.training.checkpoints import load_trained

# What a kill may leave, which nothing reads; what says how long things took.
_UNREAD = ('.lock', '.unfinished', '.incomplete', '.orbax-checkpoint-tmp')
_OF_TIME = ('log.txt', 'times.jsonl')
_TIMES = ('images_per_second', 'seconds', 'build_seconds')
_FOLDERS = ('compiled', 'checkpoints', 'chunks')


def describe_outputs(root: pathlib.Path) -> dict[str, str]:
  """A digest of each thing in a folder, by its relative path.

  Raises:
    InputError: if a checkpoint or a store cannot be read.
  """
  found = {}
  for path in sorted(root.rglob('*')):
    place = path.relative_to(root)
    if path.name == 'checkpoints':
      state = load_trained(path.parent)
      arrays = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(state)]
      found[f'{place}/{int(state.step)}'] = _digest(*arrays)
    elif path.name == 'chunks':
      found[str(place)] = _digest(open_store(path.parent).read())
    elif path.is_file() and not _is_left_out(place):
      found[str(place)] = _digest(_read(path))
  return found


def leftovers(root: pathlib.Path) -> list[str]:
  """What was begun in a folder and given up."""
  return [
    str(path.relative_to(root))
    for path in sorted(root.rglob('*'))
    if any(mark in path.name for mark in _UNREAD)
  ]


def _is_left_out(place: pathlib.Path) -> bool:
  return (
    place.name in _OF_TIME
    or any(part in _FOLDERS for part in place.parts)
    or any(mark in part for mark in _UNREAD for part in place.parts)
  )


def _read(path: pathlib.Path) -> bytes:
  if '.array_record-' in path.name:
    reader = array_record_module.ArrayRecordReader(str(path))
    examples = map(tf_example_pb2.Example.FromString, reader.read_all())
    return b''.join(
      example.SerializeToString(deterministic=True) for example in examples
    )
  if path.suffix not in ('.json', '.jsonl'):
    return path.read_bytes()
  lines = (
    path.read_text().splitlines()
    if path.suffix == '.jsonl'
    else [path.read_text()]
  )
  return json.dumps(
    [_without_times(json.loads(line)) for line in lines]
  ).encode()


def _without_times(value: Any) -> Any:
  if isinstance(value, dict):
    return {
      name: _without_times(inner)
      for name, inner in value.items()
      if name not in _TIMES
    }
  if isinstance(value, list):
    return [_without_times(inner) for inner in value]
  return value


def _digest(*parts: Any) -> str:
  digest = hashlib.sha256()
  for part in parts:
    digest.update(part)
  return digest.hexdigest()
