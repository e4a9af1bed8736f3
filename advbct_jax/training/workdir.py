"""The folder of a run, which belongs to one config."""

import json
import pathlib
from typing import Any

import ml_collections

from advbct_jax import processes
from advbct_jax.atomic_files import write_text
from advbct_jax.errors import InputError, brief, brief_reason
from advbct_jax.methods import METHODS
from advbct_jax.training.checkpoints import (
  is_workdir,
  latest_step,
  read_config,
  save_state,
)
from advbct_jax.training.state import TrainState
from advbct_jax.typed_json import read_json

_INPUTS = 'inputs.json'

# Fields that may differ between two starts of one run: they change where
# things lie and what is said, not what comes out.
_FREE_FIELDS = (
  'aligned.path',
  'checkpoint',
  'data.checked',  # what it leaves out is among the inputs
  'data.features',
  'data.max_header_bytes',
  'data.max_pixels',
  'data.memory_mib',
  'data.on_problem',
  'data.problems',
  'data.root',
  'data.workers',
  'evaluation',
  'log',
  'old.image_size',  # what comes of another one is another old side
  'old.path',
  'old.weights',
  'shard_classes',
  'stores',
)


def claim_workdir(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Writes the config into a new workdir, or checks that it is the same.

  Raises:
    InputError: if the workdir belongs to a run of another config.
  """

  def claim() -> None:
    require_same_run(workdir, config)
    _write_config(workdir, config)

  processes.from_first(claim)


def _write_config(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  workdir.mkdir(parents=True, exist_ok=True)
  write_text(
    workdir / 'config.json', json.dumps(config.to_dict(), indent=2) + '\n'
  )


def claim_inputs(workdir: pathlib.Path, inputs: dict[str, Any]) -> None:
  """Notes what a run is made from, or checks that it is still the same.

  The config says where data and old encoder lie; this says what they are.

  Args:
    workdir: of the run.
    inputs: `steps` of the whole training, and digests of the rest.

  Raises:
    InputError: if a run that has begun was made from something else.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  if latest_step(workdir) is not None:
    before = read_inputs(workdir)
    if differences := differences_between(before, inputs):
      raise InputError(
        f'{workdir}: this run was begun with other data or another old '
        'encoder:\n  ' + '\n  '.join(differences) + '\nGo back to these, or '
        'name another --workdir.'
      )
  write_text(workdir / _INPUTS, json.dumps(inputs, indent=2) + '\n')


def read_inputs(workdir: pathlib.Path) -> dict[str, Any]:
  """What a run was made from; empty before it has begun.

  Raises:
    InputError: if it is damaged.
  """
  path = workdir / _INPUTS
  if not path.exists():
    return {}
  try:
    inputs = read_json(path)
    if not isinstance(inputs, dict):
      raise ValueError(f'found {brief(inputs)}')
  except (OSError, ValueError) as error:
    raise InputError(
      f'{path}: cannot read what this run was made from '
      f'({brief_reason(error)}). Restore the file, or name another --workdir.'
    ) from error
  return inputs


def require_finished(workdir: pathlib.Path) -> None:
  """Refuses a run whose training is not at its end.

  Raises:
    InputError: saying at which step it is.
  """
  steps = read_inputs(workdir).get('steps', 'unknown')
  if (step := latest_step(workdir)) != steps:
    raise InputError(
      f'{workdir}: the training of this encoder is at step {step} of {steps}; '
      'wanted: one that is finished. Run its own command again.'
    )


def write_finished(
  workdir: pathlib.Path,
  config: ml_collections.ConfigDict,
  state: TrainState,
  inputs: dict[str, Any],
) -> None:
  """Writes what a finished run leaves, for a state that no run has made.

  Args:
    workdir: a new folder.
    config: of the run that might have been.
    state: at its end; may hold NumPy arrays, and views of such.
    inputs: what it was made from, as `claim_inputs` notes it, but for the
      steps.
  """
  _write_config(workdir, config)
  claim_inputs(workdir, {**inputs, 'steps': int(state.step)})
  save_state(workdir, state)


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
  here = json.loads(json.dumps(config.to_dict()))
  there = read_config(workdir).to_dict()
  # What other methods would be told doesn't matter.
  for method in METHODS.keys() - {config.method}:
    here.pop(method, None)
    there.pop(method, None)
  differences = differences_between(there, here)
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
