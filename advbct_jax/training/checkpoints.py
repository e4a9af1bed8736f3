"""Training states on disk, and encoders taken from them."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
from functools import partial
import inspect
import json
import pathlib
import shlex
import shutil
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from advbct_jax import parallel, processes
from advbct_jax.checksums import find_damage, write_checksums
from advbct_jax.data.decoding import MAX_PIXELS
from advbct_jax.embeddings.chunk_files import PATIENCE_SECONDS
from advbct_jax.embeddings.extract import FrozenEncoder
from advbct_jax.errors import InputError, brief_reason
from advbct_jax.literal_paths import literal_path
from advbct_jax.methods import METHODS, method_options
from advbct_jax.models.encoder import Encoder, make_encoder
from advbct_jax.orbax_options import by_itself
from advbct_jax.training.head_features import read_features
from advbct_jax.training.state import TrainState
from advbct_jax.typed_json import read_json

_FOLDER = 'checkpoints'
# Where those go that were found damaged.
_DAMAGED = 'damaged_checkpoints'
# What Orbax calls checkpoints that are not finished.
_UNFINISHED = '.orbax-checkpoint-tmp'
# What a checkpoint keeps; beside it Orbax notes times.
_ITEM = 'state'

# Fields that are younger than some workdirs, as they were taken to be before.
# The options of methods have been their defaults.
_YOUNG_FIELDS: dict[str, dict[str, Any]] = {
  'model': {'pooling': 'auto', 'head': 'batch_norm', 'compatible_dimension': 0},
  'data': {
    'normalization': 'imagenet',
    'resampling': 'bilinear',
    'features': '',
    'max_pixels': MAX_PIXELS,
    'max_header_bytes': 0,
    'checked': '',
    'on_problem': 'stop',
    'problems': [],
    'split': {'new_fraction': 1.0},
  },
  'optimizer': {'name': 'sgd', 'schedule': 'drops', 'warmup_epochs': 0.0},
  'old': {'method': 'independent', 'weights': ''},
  'evaluation': {'dtype': 'float32', 'every_epochs': 0, 'part_queries': 100},
}


class Checkpoints:
  """The checkpoints of a run.

  A state holds its step, which is the position in the data too. Saving is
  asynchronous. A checkpoint appears whole or not at all, with checksums. The
  first one is read back at once, since a place where nothing can be kept is to
  be known before days of training; the last one by `wait`. Several processes
  save and restore one state together.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    every_steps: int,
    keep: int,
    keep_every_steps: int,
  ):
    """Opens the run's checkpoints; damaged ones at the end are set aside.

    Args:
      workdir: of the run.
      every_steps: steps between two checkpoints.
      keep: how many of the latest are kept.
      keep_every_steps: those at its multiples are kept for good; 0 for none.

    Raises:
      InputError: if all of them are damaged.
    """
    processes.from_first(partial(_set_damaged_aside, workdir))
    self._folder = workdir / _FOLDER
    self._read_back = False
    self._every_steps = every_steps
    self._manager = ocp.CheckpointManager(
      literal_path(workdir / _FOLDER),
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        keep_period=keep_every_steps or None,
        cleanup_tmp_directories=True,
        async_options=ocp.AsyncOptions(
          timeout_secs=PATIENCE_SECONDS,
          post_finalization_callback=self._write_checksums,
        ),
      ),
    )

  def _write_checksums(self) -> None:
    """Notes what a checkpoint holds that is about to get its name."""
    if processes.is_first():
      for folder in self._folder.iterdir():
        if _UNFINISHED in folder.name:
          write_checksums(folder / _ITEM)

  @property
  def latest_step(self) -> int | None:
    """The step of the newest checkpoint, None without any."""
    return self._manager.latest_step()

  def due(self, step: int) -> bool:
    """Whether a checkpoint belongs after this many steps."""
    return step % self._every_steps == 0

  def save(self, state: TrainState) -> None:
    """Saves a state, unless that step is there.

    Raises:
      InputError: if it is the first and cannot be read back.
    """
    step = int(state.step)
    if step != self.latest_step:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(parallel.as_global(_stored_parts(state))),
        ),
      )
      if not self._read_back:
        self.wait()

  def restore(self, state: TrainState) -> TrainState:
    """Loads the newest checkpoint.

    Args:
      state: of the wanted structure, shapes and placement.
    """
    restored = self._manager.restore(
      self.latest_step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(
          parallel.as_global(_stored_parts(state))
        ),
      ),
    )
    return TrainState(**parallel.as_local(restored['state']))

  def wait(self) -> None:
    """Waits until everything is on disk, and reads the newest back.

    Raises:
      InputError: if it cannot be read.
    """
    self._manager.wait_until_finished()
    processes.from_first(self._read_newest)
    self._read_back = True

  def _read_newest(self) -> None:
    _read_arrays(self._folder, self.latest_step)

  def close(self) -> None:
    """Waits, and frees what the manager holds."""
    self._manager.close()


def _stored_parts(state: TrainState) -> dict[str, Any]:
  """The parts of a state by name.

  A memory that is empty is left out, as it was before there was any, so that
  runs which began then go on.
  """
  parts = {
    field.name: getattr(state, field.name)
    for field in dataclasses.fields(state)
  }
  if not jax.tree.leaves(state.memory):
    del parts['memory']
  return parts


def is_workdir(path: pathlib.Path) -> bool:
  """Whether a folder is that of a run."""
  return (path / 'config.json').exists()


def latest_step(workdir: pathlib.Path) -> int | None:
  """The step of a run's newest checkpoint, None without any."""
  folder = literal_path(workdir / _FOLDER)
  steps = ocp.utils.checkpoint_steps(folder) if folder.exists() else []
  return max(steps, default=None)


def _set_damaged_aside(workdir: pathlib.Path) -> None:
  """Moves the newest checkpoints away until there is one to go on from.

  Raises:
    InputError: if there is none.
  """
  found = ''
  while (step := latest_step(workdir)) is not None:
    damage = find_damaged(workdir, step)
    if damage is None:
      return
    aside = workdir / _DAMAGED / str(step)
    aside.parent.mkdir(exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    (workdir / _FOLDER / str(step)).rename(aside)
    found = f'{damage}; it is now {aside}'
    print(f'{found}. Going on from the one before.')
  if found:
    raise InputError(
      f'{found}, and there is none before it. Bring a copy of it back, or run '
      'the same command again to begin anew.'
    )


def find_damaged(workdir: pathlib.Path, step: int) -> str | None:
  """Says what of a checkpoint isn't as it was written; None if all is."""
  checkpoint = workdir / _FOLDER / str(step)
  try:
    damage = find_damage(checkpoint / _ITEM)
  except OSError as error:  # of a disk that breaks
    damage = str(error)
  return damage and f'{checkpoint}: this checkpoint is damaged ({damage})'


def _require_whole(workdir: pathlib.Path, step: int) -> None:
  """Refuses to take an encoder from a checkpoint that is damaged."""
  if damage := find_damaged(workdir, step):
    raise InputError(
      f'{damage}. Run the training again, which goes on from the one before; '
      'or bring a copy of it back.'
    )


def read_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
  """Reads the config that a run was started with.

  Raises:
    InputError: if the folder is not that of a run.
  """
  path = workdir / 'config.json'
  try:
    config = read_json(path)
    # The inner first, for of the outer the fields are copied.
    for part in (config.get('old', {}), config):
      for name, fields in (_YOUNG_FIELDS | _options()).items():
        if name in part:
          part[name] = _filled(part[name], fields)
    config.setdefault('aligned', {'path': ''})
    config.setdefault('shard_classes', False)
    return ml_collections.ConfigDict(config)
  except (AttributeError, OSError, TypeError, ValueError) as error:
    raise InputError(
      f'{path}: cannot read the config of a run ({brief_reason(error)}). '
      'Wanted: the --workdir that the training was given.'
    ) from error


def _filled(part: dict[str, Any], young: Mapping[str, Any]) -> dict[str, Any]:
  """A part of a config, with the fields that it lacks."""
  filled = {**young, **part}
  for name, fields in young.items():
    if isinstance(fields, Mapping):
      filled[name] = _filled(part.get(name, {}), fields)
  return filled


def _options() -> dict[str, dict[str, Any]]:
  # As JSON knows them, like the options that are there: tuples are lists.
  return json.loads(
    json.dumps({name: method_options(name) for name in METHODS})
  )


def encoder_options(model: ml_collections.ConfigDict) -> dict[str, Any]:
  """The arguments of `make_encoder` in a config's `model`."""
  names = inspect.signature(make_encoder).parameters
  return {name: model[name] for name in names if name in model}


def load_encoder(
  workdir: pathlib.Path, dtype: str = 'float32', features: str = ''
) -> FrozenEncoder:
  """Takes the encoder from the newest checkpoint of a run.

  Args:
    workdir: of the run.
    dtype: what it shall compute in, one of `COMPUTE_DTYPES`. What it was
      trained in depends on the machine where `config.model.dtype` is `auto`;
      what it says about an image must not.
    features: where what a head takes lies; '' for where it lay in training.

  Raises:
    InputError: if the folder is not that of a run, or has no checkpoint yet.
  """
  config = read_config(workdir)
  folder = literal_path(workdir / _FOLDER)
  step = latest_step(workdir)
  if step is None:
    raise InputError(
      f'{folder}: no checkpoint here yet. Train the encoder first: '
      f'advbct train --config=… --workdir={shlex.quote(str(workdir))}'
    )
  _require_whole(workdir, step)
  with (
    _reading(folder),
    ocp.CheckpointManager(
      folder,
      options=ocp.CheckpointManagerOptions(
        read_only=True, multiprocessing_options=by_itself()
      ),
    ) as manager,
  ):
    encoder = make_encoder(**encoder_options(config.model) | {'dtype': dtype})
    taken = read_features(workdir, config, features)
    size = 0 if taken else config.data.image_size
    shape = (taken.dimension,) if taken else (size, size, 3)
    abstract = jax.eval_shape(
      lambda key, images: encoder.init(key, images, train=False),
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, *shape), 'float32'),
    )
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), abstract
    )
    wanted = {
      collection: {'encoder': tree} for collection, tree in abstract.items()
    }
    restored = manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.PyTreeRestore(
          wanted,
          restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
          partial_restore=True,
        )
      ),
    )['state']
  return FrozenEncoder(
    name=_encoder_name(config.model.architecture, encoder),
    module=encoder,
    variables={
      collection: tree['encoder'] for collection, tree in restored.items()
    },
    image_size=size,
    normalization=config.data.normalization,
    compatible_dimension=config.model.compatible_dimension,
    features=taken,
    resampling=config.data.resampling,
  )


@contextlib.contextmanager
def _reading(folder: pathlib.Path) -> Iterator[None]:
  """Says which checkpoint it is that cannot be read."""
  try:
    yield
  except InputError:
    raise
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    raise InputError(
      f'{folder}: cannot read the newest checkpoint ({error}). It is damaged, '
      'or of another model than config.json says; delete it and run the '
      'training again, which goes on from the one before.'
    ) from error


def _encoder_name(architecture: str, encoder: Encoder) -> str:
  """What an encoder is called in stores: also by what its weights don't tell.

  Two encoders of the same weights that pool differently are two encoders.
  """
  pooling = encoder.backbone.pooling
  usual = make_encoder(architecture).backbone.pooling
  return architecture if pooling == usual else f'{architecture}-{pooling}'


def load_trained(workdir: pathlib.Path) -> TrainState:
  """Takes everything that was trained from the newest checkpoint of a run.

  Whatever the method and the number of classes were: the checkpoint knows.

  Args:
    workdir: of a run that has a checkpoint.

  Returns:
    The state as NumPy arrays, without that of the optimiser.
  """
  step = latest_step(workdir)
  if step is not None:
    _require_whole(workdir, step)
  restored = _read_arrays(
    workdir / _FOLDER,
    step,
    ('step', 'params', 'batch_stats', 'memory'),
  )
  return TrainState(**restored, opt_state={})


def _read_arrays(
  folder: pathlib.Path, step: int | None, names: Sequence[str] | None = None
) -> dict[str, Any]:
  """Reads a checkpoint, or some fields of it, as NumPy arrays."""
  with (
    _reading(folder),
    ocp.CheckpointManager(
      literal_path(folder),
      options=ocp.CheckpointManagerOptions(
        read_only=True, multiprocessing_options=by_itself()
      ),
      item_handlers={
        'state': ocp.PyTreeCheckpointHandler(
          multiprocessing_options=by_itself()
        )
      },
    ) as manager,
  ):
    stored = manager.item_metadata(step)['state'].tree
    # A state without a memory has no field of it.
    wanted = {name: stored[name] for name in names or stored if name in stored}
    return manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.PyTreeRestore(
          wanted,
          restore_args=jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted
          ),
          partial_restore=True,
        )
      ),
    )['state']


def save_state(workdir: pathlib.Path, state: TrainState) -> None:
  """Saves a state that no run of ours has made as the checkpoint of a workdir.

  Args:
    workdir: without checkpoints.
    state: may hold NumPy arrays, and views of such.
  """
  # Nothing changes these arrays meanwhile, so they need not be copied first.
  handlers = ocp.type_handlers.create_type_handler_registry(
    (np.ndarray, ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False))
  )
  folder = literal_path(workdir / _FOLDER)
  folder.mkdir(parents=True, exist_ok=True)
  with ocp.CheckpointManager(
    folder,
    options=ocp.CheckpointManagerOptions(
      create=False,
      enable_async_checkpointing=False,
      multiprocessing_options=by_itself(),
    ),
    item_handlers={
      'state': ocp.PyTreeCheckpointHandler(
        type_handler_registry=handlers, multiprocessing_options=by_itself()
      )
    },
  ) as manager:
    manager.save(
      int(state.step),
      args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(jax.tree.map(np.asarray, state))
      ),
    )
  write_checksums(workdir / _FOLDER / str(int(state.step)) / _ITEM)
  _read_arrays(workdir / _FOLDER, int(state.step))
