"""Nested subnetworks become encoders of their own.

advbct convert subnetworks WORKDIR OUT
"""

import pathlib
from typing import Any

import jax
import numpy as np

from advbct_jax.data.new_folder import new_folder
from advbct_jax.errors import InputError
from advbct_jax.methods.prunnet import PrunNet, statistics_name
from advbct_jax.models.subnetworks import WHOLE, prune_encoder
from advbct_jax.training.checkpoints import load_trained, read_config
from advbct_jax.training.head_features import read_features, write_features
from advbct_jax.training.state import TrainState
from advbct_jax.training.workdir import (
  read_inputs,
  require_finished,
  write_finished,
)

# What a config calls the capacity of an encoder that was taken out of another.
_FIELD = 'subnetwork'


def export_subnetworks(workdir: pathlib.Path, out: pathlib.Path) -> str:
  """Makes a workdir of each subnetwork, as if it had been trained alone.

  Args:
    workdir: of a finished run of `prunnet`.
    out: a new folder; the subnetwork of 20% goes to its folder `20`.

  Returns:
    What was written, as text.

  Raises:
    InputError: if there are no subnetworks, the run is not finished, or the
      folder is there already.
  """
  config = read_config(workdir)
  if config.get('method') != 'prunnet' or _FIELD in config:
    made_by = (
      f'the subnetwork of {config[_FIELD]}%'
      if _FIELD in config
      else f'a run of {config.get("method") or "converted weights"}'
    )
    raise InputError(
      f'{workdir}: {made_by}, which has no subnetworks; wanted: the workdir of '
      f'a run with --config.method=prunnet ({PrunNet.label}).'
    )
  require_finished(workdir)
  state = load_trained(workdir)
  inputs = read_inputs(workdir)
  features = read_features(workdir, config)
  lines = []
  with new_folder(out.absolute()) as folder:
    for capacity in config.prunnet.capacities:
      name = f'{capacity:g}'
      part = _take_part(state, capacity)
      taken = config.copy_and_resolve_references()
      with taken.unlocked():
        taken[_FIELD] = capacity
      write_finished(folder / name, taken, part, inputs)
      if features:
        write_features(folder / name, features)
      lines.append(f'{out / name}: {_count(part.params["encoder"])}')
  return '\n'.join(lines)


def _take_part(state: TrainState, capacity: float) -> TrainState:
  """The state of a run that has trained this subnetwork alone."""
  params, statistics = state.params, state.batch_stats
  # Without BatchNorm there are none.
  own = (
    statistics.get('encoder')
    if capacity == WHOLE
    else statistics.get('method', {}).get(statistics_name(capacity))
  )
  pruned = prune_encoder(
    params['encoder'], params['method']['scores'], capacity
  )
  return TrainState(
    step=state.step,
    params={
      'encoder': jax.tree.map(np.asarray, pruned),
      'classifier': params['classifier'],
    },
    batch_stats={'encoder': own} if own else {},
    opt_state={},
  )


def _count(params: Any) -> str:
  leaves = jax.tree.leaves(params)
  kept, whole = sum(map(np.count_nonzero, leaves)), sum(x.size for x in leaves)
  return f'{kept:,} of {whole:,} weights are not 0'
