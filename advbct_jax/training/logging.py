"""What a run says while it trains: a file, a progress bar, TensorBoard."""

import importlib
import json
import math
import os
import pathlib
import time
from typing import Any

import jax
import tqdm

from advbct_jax import processes
from advbct_jax.atomic_files import write_text
from advbct_jax.errors import DivergedError, InputError
from advbct_jax.methods.method import Metrics

_FILE = 'metrics.jsonl'
_FIGURES_FILE = 'evaluations.jsonl'

# {data set: {old, self or cross: {metric: percent}}}, as in `results.json`.
Figures = dict[str, dict[str, dict[str, float]]]


class MetricsLog:
  """Writes the metrics of every step, a few steps at a time.

  Metrics stay on the device until `flush`, so that the host does not wait for
  the device at every step. `metrics.jsonl` has one line a step;
  `evaluations.jsonl`, where the encoder is judged meanwhile, one each time.
  Steps that a resumed run takes again are not there twice. Where several
  processes train, the first alone writes; all see a step that diverges.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    start: int,
    steps: int,
    batch_size: int,
    tensorboard: bool,
  ):
    """Opens the log.

    Args:
      workdir: of the run.
      start: the steps that are done already.
      steps: the steps of the whole training.
      batch_size: images a step.
      tensorboard: whether to write for TensorBoard too.
    """
    self._writes = processes.is_first()
    if self._writes:
      for name in (_FILE, _FIGURES_FILE):
        _forget_after(workdir / name, start)
    self._workdir = workdir
    place = workdir / _FILE if self._writes else pathlib.Path(os.devnull)
    self._file = place.open('a', encoding='utf-8')
    self._bar = tqdm.tqdm(
      desc=f'training {workdir}',
      initial=start,
      total=steps,
      unit=' steps',
      dynamic_ncols=True,
      disable=not self._writes,
    )
    self._batch_size = batch_size
    self._pending: list[tuple[int, Metrics]] = []
    self._flushed_at = time.monotonic()
    self._tensorboard: Any = None
    if tensorboard and self._writes:
      self._tensorboard = _tensorboard_writer(workdir / 'tensorboard')

  def add(self, step: int, metrics: Metrics) -> None:
    """Notes the metrics of a step; they may still be in computation."""
    self._pending.append((step, metrics))

  def flush(self) -> None:
    """Writes what was noted.

    Raises:
      DivergedError: at the first metric that is not finite; the steps before it
        are written.
    """
    if not self._pending:
      return
    pending, self._pending = jax.device_get(self._pending), []
    now = time.monotonic()
    rate = len(pending) * self._batch_size / (now - self._flushed_at)
    self._flushed_at = now
    try:
      for step, metrics in pending:
        line = {name: float(value) for name, value in metrics.items()}
        _require_finite(step, line)
        self._write(step, line | {'images_per_second': round(rate, 1)})
    finally:
      self._file.flush()
    self._bar.update(len(pending))
    self._bar.set_postfix_str(
      f'loss {line["loss"]:.3f}, accuracy {line["accuracy"]:.2f}, '
      f'{rate:.0f} images/s'
    )

  def add_figures(self, step: int, epoch: int, figures: Figures) -> None:
    """Writes at once how good the encoder of a step is.

    Args:
      step: the steps done.
      epoch: the epochs done.
      figures: what judging it gave.
    """
    if not self._writes:
      return
    line = {'step': step, 'epoch': epoch, 'datasets': figures}
    with (self._workdir / _FIGURES_FILE).open('a', encoding='utf-8') as file:
      file.write(json.dumps(line) + '\n')
    for name, sides in figures.items():
      said = []
      for side, values in sides.items():
        for metric, value in values.items():
          said.append(f'{side} {value:.2f}')
          if self._tensorboard:
            tag = f'{name}/{metric}/{side}'
            self._tensorboard.add_scalar(tag, value, step)
      self._bar.write(
        f'epoch {epoch}, part of {name}, {metric}: {", ".join(said)}'
      )
    # Judging is no training, of whose speed the next lines tell.
    self._flushed_at = time.monotonic()

  def close(self) -> None:
    """Closes the file, the bar and TensorBoard."""
    self._file.close()
    self._bar.close()
    if self._tensorboard:
      self._tensorboard.close()

  def _write(self, step: int, line: dict[str, float]) -> None:
    self._file.write(json.dumps({'step': step} | line) + '\n')
    if self._tensorboard:
      for name, value in line.items():
        self._tensorboard.add_scalar(name, value, step)


def read_metrics(workdir: pathlib.Path) -> list[dict[str, float]]:
  """Reads what a run has logged, a dict a step; empty before it has begun."""
  path = workdir / _FILE
  lines = path.read_text('utf-8').splitlines() if path.exists() else []
  return [json.loads(line) for line in lines]


def read_figures(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Reads how good a run's encoder was while it was trained.

  Returns:
    {step, epoch, datasets} each time that it was judged; empty if it never was.
  """
  path = workdir / _FIGURES_FILE
  lines = path.read_text('utf-8').splitlines() if path.exists() else []
  return [json.loads(line) for line in lines]


def _tensorboard_writer(folder: pathlib.Path) -> Any:
  try:
    return importlib.import_module('tensorboardX').SummaryWriter(str(folder))
  except ImportError as error:
    raise InputError(
      f'config.log.tensorboard is True, but tensorboardX is missing ({error}). '
      "Run pip install 'advbct_jax[tensorboard]', or set it to False."
    ) from error


def _require_finite(step: int, line: dict[str, float]) -> None:
  for name, value in line.items():
    if not math.isfinite(value):
      raise DivergedError(f'{name} is {value} at step {step}')


def _forget_after(path: pathlib.Path, step: int) -> None:
  """Drops the lines of later steps, and one that a kill cut short."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text('utf-8').splitlines():
    try:
      if json.loads(line)['step'] <= step:
        kept.append(line + '\n')
    except ValueError:
      break
  write_text(path, ''.join(kept))
