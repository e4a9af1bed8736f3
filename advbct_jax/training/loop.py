"""The training loop."""

from collections.abc import Callable
from functools import partial
import pathlib
from typing import Any

import jax

from advbct_jax import processes
from advbct_jax.embeddings.extract import FrozenEncoder
from advbct_jax.errors import DivergedError, StoppedError
from advbct_jax.locks import hold
from advbct_jax.training.checkpoints import Checkpoints
from advbct_jax.training.head_features import write_features
from advbct_jax.training.interruption import Interruption
from advbct_jax.training.logging import Figures, MetricsLog
from advbct_jax.training.refresh import refresh_due, refresh_memory
from advbct_jax.training.run import Run
from advbct_jax.training.state import TrainState
from advbct_jax.training.workdir import claim_inputs

Judge = Callable[[FrozenEncoder], Figures]


def train(run: Run, workdir: pathlib.Path, judge: Judge | None = None) -> None:
  """Trains a run to its end, from its newest checkpoint if there is one.

  Args:
    run: what to train.
    workdir: where checkpoints and metrics go.
    judge: says how good an encoder is, every `config.evaluation.every_epochs`
      and at the end; what it says is logged, and changes nothing.

  Raises:
    StoppedError: if a signal asked to stop; the state is saved.
    DivergedError: if a metric is not finite; the last good checkpoint is kept.
  """
  # The old encoder's workdir too, which several upgrades may share.
  with hold(workdir, 'trains'):
    # The last digits of vectors may differ from host to host.
    digits = ('old_side', 'start')
    processes.require_same(
      'what is trained on',
      {name: it for name, it in run.inputs.items() if name not in digits},
    )
    processes.from_first(lambda: _claim(run, workdir))
    processes.require_shared(workdir)
    checkpoints = Checkpoints(workdir, **run.config.checkpoint)
    try:
      if checkpoints.latest_step != run.steps:
        _train_on(run, workdir, checkpoints, judge)
    finally:
      checkpoints.close()


def _claim(run: Run, workdir: pathlib.Path) -> None:
  claim_inputs(workdir, run.inputs)
  if run.features:
    write_features(workdir, run.features)


def _train_on(
  run: Run,
  workdir: pathlib.Path,
  checkpoints: Checkpoints,
  judge: Judge | None,
) -> None:
  # Where a run starts: its own newest checkpoint, else the weights that the
  # config names, else fresh ones.
  layout = run.class_layout
  if checkpoints.latest_step is not None:
    # What is stored tells nothing of the devices.
    stored = checkpoints.restore(layout.whole(run.fresh_state(layout)))
    state = layout.place(stored)
    step = int(state.step)
    processes.say(f'{workdir}: going on from step {step} of {run.steps}')
  else:
    state = layout.agree(run.initial_state())
  batches = run.batches(start=int(state.step))
  log = MetricsLog(
    workdir,
    start=int(state.step),
    steps=run.steps,
    batch_size=run.config.batch_size,
    tensorboard=run.config.log.tensorboard,
  )
  try:
    _take_steps(run, state, batches, checkpoints, log, judge)
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
  judge: Judge | None,
) -> None:
  """Takes the steps that are left: refresh, step, log, judge, save."""
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
      stop = interruption.stops_after(step)
      save = checkpoints.due(step) or step == run.steps or stop
      judged = judge is not None and _judgement_due(run, step)
      if save or judged or step % run.config.log.every_steps == 0:
        log.flush()  # first, so that no diverged state is judged or saved
      if judge and judged:
        # Before saving: a run that is killed in between judges again, where
        # otherwise it would go on as if it had.
        encoder = run.frozen_encoder(state)
        figures = processes.from_first(partial(judge, encoder))
        log.add_figures(step, step // run.steps_per_epoch, figures)
      if save:
        checkpoints.save(run.class_layout.whole(state))
      if stop:
        break
    # Before anything says that it is saved.
    checkpoints.wait()
    # A signal may also have come while the last step was being saved.
    if signal := interruption.settle():
      raise StoppedError(step, run.steps, signal)


def _judgement_due(run: Run, step: int) -> bool:
  """Whether the encoder is judged after so many steps."""
  every = run.config.evaluation.every_epochs
  epoch, within = divmod(step, run.steps_per_epoch)
  if not every or within:
    return False
  return epoch % every == 0 or step == run.steps
