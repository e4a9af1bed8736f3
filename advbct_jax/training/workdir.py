"""The folder of a run, which belongs to one config."""

import json
import os
import pathlib
from typing import Any

import jax
import ml_collections

from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import (
  is_workdir,
  latest_step,
  read_config,
)

# Fields that may differ between two starts of one run: they change where
# things lie and what is said, not what comes out.
_FREE_FIELDS = (
  'checkpoint',
  'data.memory_mib',
  'data.root',
  'data.workers',
  'evaluation',
  'log',
  'old.path',
)


def claim_workdir(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Writes the config into a new workdir, or checks that it is the same.

  Raises:
    InputError: if the workdir belongs to a run of another config.
  """
  require_same_run(workdir, config)
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    unfinished = workdir / 'config.json.unfinished'
    unfinished.write_text(json.dumps(config.to_dict(), indent=2) + '\n')
    os.replace(unfinished, workdir / 'config.json')


def require_same_run(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Refuses to go on with a run under another config.

  Raises:
    InputError: if the workdir holds a run whose config differs in a field that
      matters; it names the fields.
  """
  if not is_workdir(workdir) or latest_step(workdir) is None:
    return
  # As JSON knows it: tuples are lists there.
  wanted = json.loads(json.dumps(config.to_dict()))
  differences = differences_between(read_config(workdir).to_dict(), wanted)
  if differences:
    raise InputError(
      f'{workdir}: the run in this workdir has another config:\n  '
      + '\n  '.join(differences)
      + '\nName another --workdir, or go back to the config of this one.'
    )


def differences_between(there: Any, here: Any, path: str = '') -> list[str]:
  """Says in words where two configs differ, but for the free fields.

  Args:
    there: a config or a part of one, as JSON knows it.
    here: another.
    path: the dotted name of the part, empty for the whole.

  >>> differences_between({'seed': 0, 'log': 1}, {'seed': 1, 'log': 2})
  ['seed: 0 there, 1 here']
  """
  if path in _FREE_FIELDS:
    return []
  if isinstance(there, dict) and isinstance(here, dict):
    return [
      difference
      for name in sorted(there.keys() | here.keys())
      for difference in differences_between(
        there.get(name), here.get(name), f'{path}.{name}'.lstrip('.')
      )
    ]
  return [f'{path}: {there!r} there, {here!r} here'] if there != here else []
