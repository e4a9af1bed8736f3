"""The training loop."""

import pathlib
from typing import Any

import jax

from advbct_jax import parallel
from advbct_jax.errors import DivergedError, StoppedError
from advbct_jax.locks import hold
from advbct_jax.training.checkpoints import Checkpoints
from advbct_jax.training.interruption import Interruption
from advbct_jax.training.logging import MetricsLog
from advbct_jax.training.refresh import refresh_due, refresh_memory
from advbct_jax.training.run import Run
from advbct_jax.training.state import TrainState
from advbct_jax.training.workdir import claim_inputs


def train(run: Run, workdir: pathlib.Path) -> None:
  """Trains a run to its end, from its newest checkpoint if there is one.

  Args:
    run: what to train.
    workdir: where checkpoints and metrics go.

  Raises:
    StoppedError: if a signal asked to stop; the state is saved.
    DivergedError: if a metric is not finite; the last good checkpoint is kept.
  """
  # The old encoder's workdir too, which several upgrades may share.
  with hold(workdir, 'trains'):
    claim_inputs(workdir, run.inputs)
    checkpoints = Checkpoints(workdir, **run.config.checkpoint)
    try:
      if checkpoints.latest_step != run.steps:
        _train_on(run, workdir, checkpoints)
    finally:
      checkpoints.close()


def _train_on(
  run: Run, workdir: pathlib.Path, checkpoints: Checkpoints
) -> None:
  # Where a run starts: its own newest checkpoint, else the weights that the
  # config names, else fresh ones.
  if checkpoints.latest_step is not None:
    state = checkpoints.restore(parallel.replicate(run.fresh_state()))
    print(f'{workdir}: going on from step {int(state.step)} of {run.steps}')
  else:
    state = parallel.replicate(run.initial_state())
  batches = run.batches(start=int(state.step))
  log = MetricsLog(
    workdir,
    start=int(state.step),
    steps=run.steps,
    batch_size=run.config.batch_size,
    tensorboard=run.config.log.tensorboard,
  )
  try:
    _take_steps(run, state, batches, checkpoints, log)
  except DivergedError as error:
    saved = checkpoints.latest_step
    kept = (
      'No checkpoint was saved before'
      if saved is None
      else f'The last good checkpoint, of step {saved}, is kept'
    )
    raise DivergedError(
      f'{workdir}: {error}. {kept}. Lower config.optimizer.learning_rate or '
      'look at the data of this step.'
    ) from None
  finally:
    batches.close()
    log.close()


def _take_steps(
  run: Run,
  state: TrainState,
  batches: Any,
  checkpoints: Checkpoints,
  log: MetricsLog,
) -> None:
  """Takes the steps that are left: refresh, step, log, save, in this order."""
  train_step = run.compiled_step()
  constants = run.constants()
  with Interruption() as interruption:
    for step in range(int(state.step) + 1, run.steps + 1):
      if refresh_due(run, step - 1):
        state = refresh_memory(run, state)
      batch = run.complete_batch(next(batches))
      # Nothing but the batch may go to the devices, and nothing come back: a
      # step that waits for the host would keep them idle unseen.
      with jax.transfer_guard('disallow'):
        state, metrics = train_step(state, batch, *constants)
      log.add(step, metrics)
      stop = interruption.signal is not None
      save = checkpoints.due(step) or step == run.steps or stop
      if save or step % run.config.log.every_steps == 0:
        log.flush()  # before saving, so that no diverged state is saved
      if save:
        checkpoints.save(state)
      if stop:
        break
    # Before anything says that it is saved.
    checkpoints.wait()
    # A signal may also have come while the last step was being saved.
    if interruption.signal is not None:
      raise StoppedError(step, run.steps, interruption.signal)
