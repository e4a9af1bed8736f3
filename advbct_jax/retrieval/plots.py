"""The figures of a report, drawn from `results.json`.

Matplotlib is imported where something is drawn: it takes half a second, and
every command that can write a report would pay for it.
"""

from __future__ import annotations

import pathlib
from typing import Any

from advbct_jax.plot_style import SIDE_COLOURS, save_figure, strip_axes

_LEGENDS = {
  'old': 'old: old queries, old gallery',
  'cross': 'cross: new queries, old gallery',
  'self': 'self: new queries, new gallery',
  'independent': 'independent: trained without the old, both sides',
}
_GROUP_WIDTH = 0.8


def plot_results(results: dict[str, Any], path: pathlib.Path) -> None:
  """Draws old, cross and self of each data set as bars of the main metric.

  Args:
    results: what `evaluation.evaluate` returned.
    path: a .png to write.
  """
  from matplotlib.figure import Figure

  datasets = results['datasets']
  sides = [
    side
    for side in SIDE_COLOURS
    if any(side in figures for figures in datasets.values())
  ]
  figure = Figure(figsize=(3.2 + 2.0 * len(datasets), 4.2))
  axes = figure.add_subplot()
  width = _GROUP_WIDTH / len(sides)
  for place, side in enumerate(sides):
    offset = (place - (len(sides) - 1) / 2) * width
    bars = axes.bar(
      [position + offset for position in range(len(datasets))],
      [
        figures[side][results['protocol'][name]['main_metric']]
        for name, figures in datasets.items()
      ],
      0.94 * width,
      color=SIDE_COLOURS[side],
      label=_LEGENDS[side],
    )
    axes.bar_label(bars, fmt='%.1f', fontsize=9, padding=2)
  axes.set_xticks(range(len(datasets)), _titles(results))
  axes.set_ylabel('percent')
  axes.margins(y=0.12)
  strip_axes(axes)
  figure.legend(
    *axes.get_legend_handles_labels(),
    loc='outside upper left',
    frameon=False,
    fontsize=9,
  )
  save_figure(figure, path)


def plot_refresh(results: dict[str, Any], path: pathlib.Path) -> None:
  """Draws the main metric while the gallery is re-embedded.

  Args:
    results: what `evaluation.evaluate` returned, with an old encoder.
    path: a .png to write.
  """
  from matplotlib import patheffects
  from matplotlib.figure import Figure

  datasets = results['datasets']
  figure = Figure(figsize=(0.6 + 3.6 * len(datasets), 3.6))
  panels = figure.subplots(1, len(datasets), squeeze=False)[0]
  for axes, title, (name, figures) in zip(
    panels, _titles(results), datasets.items(), strict=True
  ):
    percent = [int(step) for step in figures['refresh']]
    values = list(figures['refresh'].values())
    old = figures['old'][results['protocol'][name]['main_metric']]
    axes.plot(
      percent,
      values,
      marker='o',
      linewidth=2,
      color=SIDE_COLOURS['self'],
      label='new queries',
    )
    axes.axhline(
      old,
      linestyle='--',
      linewidth=1.5,
      color=SIDE_COLOURS['old'],
      label='old queries, old gallery',
    )
    for step, value in zip(percent, values, strict=True):
      axes.annotate(
        f'{value:.2f}',
        (step, value),
        xytext=(0, 6),
        textcoords='offset points',
        ha='center',
        fontsize=9,
        path_effects=[patheffects.withStroke(linewidth=3, foreground='white')],
      )
    axes.set_title(title, fontsize=10)
    axes.set_xticks(percent)
    axes.set_xlabel('gallery re-embedded (%)')
    axes.margins(x=0.09, y=0.18)
    strip_axes(axes)
  panels[0].set_ylabel('percent')
  figure.legend(
    *panels[0].get_legend_handles_labels(),
    loc='outside upper left',
    ncols=2,
    frameon=False,
    fontsize=9,
  )
  save_figure(figure, path)


def _titles(results: dict[str, Any]) -> list[str]:
  return [
    f'{name}\n{results["protocol"][name]["main_metric"]}'
    for name in results['datasets']
  ]
