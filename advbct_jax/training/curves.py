"""The curves of a training, drawn from what it has logged."""

from __future__ import annotations

from collections.abc import Callable
import itertools
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from advbct_jax.plot_style import (
  LINE_COLOURS,
  SIDE_COLOURS,
  save_figure,
  strip_axes,
)
from advbct_jax.training.logging import read_figures, read_metrics

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_COLUMNS = 3

# Which metrics share a panel, and so a scale.
_PANELS: dict[str, Callable[[str], bool]] = {
  'losses': lambda name: name.endswith('loss'),
  'accuracy in the batch': lambda name: name.endswith('accuracy'),
  'new to old in the batch': lambda name: (
    name in ('cosine_to_old', 'cross_recall_at_1')
  ),
  'learning rate': lambda name: name == 'learning_rate',
}

# Longer curves are drawn faintly, with a running mean over 1/50 of them, and of
# no more points than a panel can show.
_FEW_STEPS = 200
_SMOOTHED_PARTS = 50
_MOST_POINTS = 2000


def plot_curves(workdir: pathlib.Path) -> None:
  """Draws how a training went into WORKDIR/curves.png.

  Panels over the step: losses, accuracy, how new embeddings meet old ones, the
  learning rate, and old, self and cross of each data set that was judged
  meanwhile. A run that has logged no step gets no picture.

  Args:
    workdir: of the run.
  """
  lines = read_metrics(workdir)
  if not lines:
    return
  from matplotlib.figure import Figure

  panels = [
    (title, names)
    for title, belongs in _PANELS.items()
    if (names := [name for name in lines[-1] if belongs(name)])
  ]
  judged = read_figures(workdir)
  # What is judged may have changed between two starts of a run.
  datasets = dict.fromkeys(
    itertools.chain.from_iterable(line['datasets'] for line in judged)
  )
  count = len(panels) + len(datasets)
  columns = min(count, _COLUMNS)
  rows = -(-count // columns)
  figure = Figure(figsize=(3.8 * columns, 2.7 * rows))
  all_axes = iter(figure.subplots(rows, columns, squeeze=False).flat)
  for title, names in panels:
    axes = next(all_axes)
    for name, colour in zip(names, itertools.cycle(LINE_COLOURS), strict=False):
      _draw_metric(axes, lines, name, colour)
    _finish(axes, title, lines[-1]['step'])
  for name in datasets:
    axes = next(all_axes)
    metric = _draw_judged(axes, judged, name)
    _finish(axes, f'part of {name}: {metric} (%)', lines[-1]['step'])
  for axes in all_axes:
    axes.set_visible(False)
  save_figure(figure, workdir / 'curves.png')


def _draw_metric(
  axes: Axes, lines: list[dict[str, float]], name: str, colour: str
) -> None:
  # Steps that an older version has logged may lack it.
  points = [(line['step'], line[name]) for line in lines if name in line]
  steps, values = np.transpose(points)
  count = len(steps)
  shown = slice(None, None, -(-count // _MOST_POINTS))
  # The learning rate is no noisy measurement, and its drops are to be seen.
  if count > _FEW_STEPS and name != 'learning_rate':
    axes.plot(
      steps[shown], values[shown], color=colour, alpha=0.2, linewidth=0.6
    )
    values = _smooth(values, count // _SMOOTHED_PARTS)
  axes.plot(
    steps[shown], values[shown], color=colour, linewidth=1.6, label=name
  )


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
  """The mean of what lies around each value; at the ends, of what there is."""
  at = np.arange(len(values))
  first = np.maximum(at - width // 2, 0)
  after = np.minimum(at + width // 2 + 1, len(values))
  sums = np.concatenate([[0.0], np.cumsum(values)])
  return (sums[after] - sums[first]) / (after - first)


def _draw_judged(axes: Axes, judged: list[dict[str, Any]], name: str) -> str:
  """Draws the sides of a data set, and returns the name of the metric."""
  judged = [line for line in judged if name in line['datasets']]
  sides = judged[-1]['datasets'][name]
  (metric,) = sides['self']
  for side in sides:
    points = [
      (line['step'], line['datasets'][name][side][metric])
      for line in judged
      if side in line['datasets'][name]
    ]
    axes.plot(
      *np.transpose(points),
      color=SIDE_COLOURS[side],
      linestyle='--' if side == 'old' else '-',
      marker='' if side == 'old' and len(points) > 1 else 'o',
      markersize=4,
      clip_on=False,
      linewidth=1.6,
      label=side,
    )
  return metric


def _finish(axes: Axes, title: str, last_step: float) -> None:
  axes.set_title(title, loc='left', fontsize=10)
  axes.set_xlabel('step', fontsize=9)
  axes.tick_params(labelsize=8)
  # One span for all panels: they are read from one to the next.
  axes.set_xlim(0, last_step)
  axes.margins(y=0.1)
  if len(axes.get_legend_handles_labels()[1]) > 1:
    axes.legend(frameon=False, fontsize=8)
  strip_axes(axes)
