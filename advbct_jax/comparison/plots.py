"""A comparison as a plot: what each method gives, at once and in the end."""

from collections.abc import Iterable, Sequence
import itertools
import pathlib
from typing import Any

from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
import numpy as np

from advbct_jax.comparison.dominance import frontier
from advbct_jax.comparison.label_placement import Box, place_labels
from advbct_jax.comparison.summary import (
  Row,
  Sample,
  display_name,
  old_sample,
)
from advbct_jax.errors import InputError

# Okabe and Ito's palette, which colour-blind readers tell apart; the two last
# are Tol's, for its yellow is lost on white.
_COLOURS = {
  'advbct': '#D55E00',
  'bct': '#56B4E9',
  'contrastive': '#999933',
  'hot_refresh': '#000000',
  'independent': '#009E73',
  'l2': '#0072B2',
  'lce': '#E69F00',
  'unibct': '#CC79A7',
}
_OTHER_COLOUR = '#882255'
_MARKERS = {
  'fresh': 'o',
  'old': 's',
  'aligned': '^',
  'procrustes': 'D',
  'ridge': 'P',
  'residual_mlp': 'X',
}
_OTHER_MARKER = 'v'
_GREY = '#6E6E6E'
# Labels farther from their point, in points of type, get a line to it.
_LEADER_FROM = 12.0
_HALO = [patheffects.withStroke(linewidth=2.5, foreground='white')]


def plot_tradeoff(
  rows: Sequence[Row], dataset: str, path: pathlib.Path
) -> None:
  """Draws self against cross, a point for each method and start.

  Above the dashed line, the old encoder's own figure, new queries do better on
  the old gallery than old ones did. The dotted line is what the independent
  encoder reaches once the gallery is re-embedded. The step is the frontier.

  Args:
    rows: of one upgrade, at least one of which competes.
    dataset: one of theirs.
    path: a .png to write.

  Raises:
    InputError: if there is no point to draw.
  """
  rivals = [row for row in rows if row.competes]
  if not rivals:
    raise InputError(
      f'{path}: no method or adapter among {len(rows)} rows; wanted: at least '
      'one besides the independent encoder. Run more of the grid.'
    )
  figure = Figure(figsize=(8.6, 5.8), dpi=150, layout='constrained')
  canvas = FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  for row in rivals:
    _draw_point(axes, row, dataset)
  axes.margins(0.09)
  reference = next((row for row in rows if not row.competes), None)
  bounds = _draw_bounds(axes, reference, old_sample(rows, dataset), dataset)
  corners = _draw_frontier(axes, rivals, dataset)
  metric = rows[0].metrics[dataset]
  axes.set_title(f'{rows[0].upgrade}, {dataset}', loc='left', fontsize=11)
  if any(len(row.seeds) > 1 for row in rivals):
    axes.set_title(
      'bars: one standard deviation over seeds; dots: single seeds',
      loc='right',
      fontsize=8.5,
      color=_GREY,
    )
  axes.set_xlabel(f'self: {metric} once the gallery is re-embedded (%)')
  axes.set_ylabel(f'cross: {metric} on the old gallery (%)')
  axes.spines[['top', 'right']].set_visible(False)
  axes.grid(color='#EEEEEE')
  axes.set_axisbelow(True)
  _add_legends(figure, rivals)
  # The layout must be final before labels can be placed in it.
  figure.draw_without_rendering()
  figure.set_layout_engine('none')
  _label_points(axes, canvas, rivals, dataset, corners, bounds)
  canvas.print_png(path)


def _colour(row: Row) -> str:
  return _COLOURS.get(row.method, _OTHER_COLOUR)


def _darken(colour: str) -> tuple[float, ...]:
  # Letters are thinner than markers and need more contrast to white.
  return tuple(0.75 * channel for channel in to_rgb(colour))


def _marker(start: str) -> str:
  return _MARKERS.get(start, _OTHER_MARKER)


def _samples(row: Row, dataset: str) -> tuple[Sample, Sample]:
  sides = row.figures[dataset]
  return sides['self'], sides['cross']


def _means(row: Row, dataset: str) -> tuple[float, float]:
  x, y = _samples(row, dataset)
  return x.mean, y.mean


def _draw_point(axes: Axes, row: Row, dataset: str) -> None:
  x, y = _samples(row, dataset)
  colour, marker = _colour(row), _marker(row.start)
  if x.n > 1:
    axes.plot(
      x.values, y.values, '.', color=colour, alpha=0.3, markersize=5, zorder=2
    )
  axes.errorbar(
    x.mean,
    y.mean,
    xerr=x.std,
    yerr=y.std,
    color=colour,
    marker=marker,
    markersize=8,
    markeredgecolor='white',
    markeredgewidth=0.8,
    elinewidth=1,
    zorder=3,
  )


def _draw_bounds(
  axes: Axes, reference: Row | None, old: Sample, dataset: str
) -> list[Line2D]:
  bounds = [
    axes.axhline(
      old.mean,
      linestyle='--',
      linewidth=1.3,
      color=_GREY,
      zorder=1,
      label=f'old encoder: {old.mean:.1f}, to be beaten at once',
    )
  ]
  if reference is not None:
    x, y = _means(reference, dataset)
    # Its own cross is near zero: a point there would squeeze all the others.
    bounds.append(
      axes.axvline(
        x,
        linestyle=':',
        linewidth=1.3,
        color=_COLOURS['independent'],
        zorder=1,
        label=f'independent encoder: self {x:.1f} (cross {y:.1f}, not drawn)',
      )
    )
  return bounds


def _draw_frontier(
  axes: Axes, rivals: Sequence[Row], dataset: str
) -> list[tuple[float, float]]:
  """Draws the frontier to the edges of the plot; returns its corners."""
  left, right = axes.get_xlim()
  bottom, top = axes.get_ylim()
  corners: list[tuple[float, float]] = []
  x = left
  for row in frontier(rivals, dataset):
    next_x, y = _means(row, dataset)
    corners += [(x, y), (next_x, y)]
    x = next_x
  corners.append((x, bottom))
  axes.plot(
    *zip(*corners, strict=True),
    linewidth=0.9,
    color='#A6A6A6',
    zorder=0.9,
    label='frontier of the means',
  )
  axes.set(xlim=(left, right), ylim=(bottom, top))
  return corners


def _add_legends(figure: Figure, rivals: Sequence[Row]) -> None:
  starts = dict.fromkeys(row.start for row in rivals)
  markers = [
    Line2D(
      [],
      [],
      linestyle='',
      marker=_marker(start),
      markersize=7,
      color=_GREY,
      label=_start_title(start, rivals),
    )
    for start in starts
  ]
  lines, _ = figure.axes[0].get_legend_handles_labels()
  style: dict[str, Any] = {
    'ncols': 6,
    'columnspacing': 1.4,
    'handletextpad': 0.5,
    'frameon': False,
    'fontsize': 8.5,
  }
  figure.legend(handles=markers, loc='outside upper left', **style)
  figure.legend(handles=lines, loc='outside lower left', **style)


def _start_title(start: str, rivals: Iterable[Row]) -> str:
  adapter = all(
    row.method == 'independent' for row in rivals if row.start == start
  )
  name = display_name(start)
  return f'adapter: {name}' if adapter else f'start: {name}'


def _label_points(
  axes: Axes,
  canvas: FigureCanvasAgg,
  rows: Sequence[Row],
  dataset: str,
  corners: Sequence[tuple[float, float]],
  bounds: Sequence[Line2D],
) -> None:
  """Writes each label where it covers the least of what is drawn."""
  unit = canvas.figure.dpi / 72
  texts = [
    axes.annotate(
      row.label,
      _means(row, dataset),
      xytext=(0, 0),
      textcoords='offset points',
      ha='center',
      va='center',
      fontsize=8.5,
      color=_darken(_colour(row)),
      path_effects=_HALO,
      arrowprops={'arrowstyle': '-', 'linewidth': 0.6, 'color': _GREY},
      zorder=5,
    )
    for row in rows
  ]
  renderer = canvas.get_renderer()
  extents = [Text.get_window_extent(text, renderer) for text in texts]
  anchors = axes.transData.transform([_means(row, dataset) for row in rows])
  obstacles = [
    box for row in rows for box in _drawn_boxes(axes, row, dataset, unit)
  ] + [
    _box(axes, one, other, unit) for one, other in itertools.pairwise(corners)
  ]
  obstacles += [
    (box.x0, box.y0, box.x1, box.y1)
    for box in (line.get_window_extent().padded(unit) for line in bounds)
  ]
  centres = place_labels(
    anchors,
    np.array([(extent.width, extent.height) for extent in extents]),
    obstacles,
    axes.get_window_extent(renderer).extents,
    unit,
  )
  for text, anchor, centre, extent in zip(
    texts, anchors, centres, extents, strict=True
  ):
    away = np.abs(centre - anchor) - np.array([extent.width, extent.height]) / 2
    text.set_position((centre - anchor) / unit)
    if text.arrow_patch is not None:
      text.arrow_patch.set_visible(bool(away.max() > _LEADER_FROM * unit))


def _drawn_boxes(axes: Axes, row: Row, dataset: str, unit: float) -> list[Box]:
  """The marker, seeds and error bars of a row, in pixels."""
  x, y = _samples(row, dataset)
  wide, high = x.std or 0.0, y.std or 0.0
  middle = (x.mean, y.mean)
  return [
    *(
      _box(axes, seed, seed, 2 * unit)
      for seed in zip(x.values, y.values, strict=True)
    ),
    _box(axes, middle, middle, 6 * unit),
    _box(axes, (x.mean - wide, y.mean), (x.mean + wide, y.mean), 2 * unit),
    _box(axes, (x.mean, y.mean - high), (x.mean, y.mean + high), 2 * unit),
  ]


def _box(
  axes: Axes,
  one: tuple[float, float],
  other: tuple[float, float],
  margin: float,
) -> Box:
  """The box around two points of the data, and a margin, in pixels."""
  pixels = axes.transData.transform([one, other])
  left, bottom = pixels.min(axis=0) - margin
  right, top = pixels.max(axis=0) + margin
  return left, bottom, right, top
