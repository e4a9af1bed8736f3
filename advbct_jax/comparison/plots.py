"""A comparison as a plot: what each method gives, at once and in the end."""

import pathlib
from typing import Any

from adjustText import adjust_text
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
import numpy as np
import pandas as pd

from advbct_jax.comparison.averages import (
  average,
  average_old,
  leave_out_reference,
)
from advbct_jax.comparison.dominance import frontier
from advbct_jax.comparison.labels import (
  REFERENCE,
  method_color,
  row_label,
  start_label,
  start_marker,
)
from advbct_jax.comparison.starts import read_start
from advbct_jax.errors import InputError

_GREY = '#6E6E6E'
# Round the middle of a marker no label shall lie: so many points of type.
_KEPT_CLEAR = 7.0
# More labels can't be read, and take minutes to be kept apart.
_MOST_LABELS = 40


def plot_tradeoff(figures: pd.DataFrame, path: pathlib.Path) -> None:
  """Draws self against cross, a point for each method and start.

  Above the dashed line, the old encoder's own figure, new queries do better on
  the old gallery than old ones did. The dotted line is what the independent
  encoder reaches once the gallery is re-embedded. The step is the frontier. Of
  more than 40 points those have labels that the fewest others dominate.

  Args:
    figures: of `averages.tabulate`, of one upgrade and data set; at least one
      row competes.
    path: a .png to write.

  Raises:
    InputError: if there is no point to draw.
  """
  rows = average(figures, ['method', 'start'])
  rivals = leave_out_reference(rows)
  if rivals.empty:
    raise InputError(
      f'{path}: no method or adapter among {len(rows)} rows; wanted: at least '
      'one besides the independent encoder. Run more of the grid.'
    )
  figure = Figure(figsize=(8.6, 5.8), dpi=150, layout='constrained')
  # Without pyplot: no global state, and no window where there is no screen.
  canvas = FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  seeds = dict(list(figures.groupby(['method', 'start'], sort=False)))
  for key, row in rivals.iterrows():
    _draw_point(axes, key, row, seeds[key])
  axes.margins(0.09)
  old = average_old(figures)['mean']
  axes.axhline(
    old,
    linestyle='--',
    linewidth=1.3,
    color=_GREY,
    zorder=1,
    label=f'old encoder: {old:.1f}, to be beaten at once',
  )
  if REFERENCE in rows.index:
    _draw_independent(axes, rows.loc[REFERENCE])
  _draw_frontier(axes, rivals)
  upgrade, dataset, metric = figures[['upgrade', 'dataset', 'metric']].iloc[0]
  axes.set_title(f'{upgrade}, {dataset}', loc='left', fontsize=11)
  if (rivals['self', 'n'] > 1).any():
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
  _add_legends(figure, rivals.index.unique('start'))
  # The layout must be final before labels can be placed in it.
  figure.draw_without_rendering()
  figure.set_layout_engine('none')
  _label_points(axes, _means(rivals))
  canvas.print_png(path)


def _means(rows: pd.DataFrame) -> pd.DataFrame:
  return rows.xs('mean', axis='columns', level=1)


def _draw_point(
  axes: Axes, key: tuple[str, str], row: pd.Series, seeds: pd.DataFrame
) -> None:
  method, start = key
  color = method_color(method)
  if len(seeds) > 1:
    axes.plot(
      seeds['self'],
      seeds['cross'],
      '.',
      color=color,
      alpha=0.3,
      markersize=5,
      zorder=2,
    )
  axes.errorbar(
    row['self', 'mean'],
    row['cross', 'mean'],
    xerr=row['self', 'std'],
    yerr=row['cross', 'std'],
    color=color,
    marker=start_marker(start),
    markersize=8,
    markeredgecolor='white',
    markeredgewidth=0.8,
    elinewidth=1,
    zorder=3,
  )


def _draw_independent(axes: Axes, row: pd.Series) -> None:
  x, y = row['self', 'mean'], row['cross', 'mean']
  # Its own cross is near zero: a point there would squeeze all the others.
  # That of two widths has none.
  cross = f' (cross {y:.1f}, not drawn)' if row['cross', 'n'] else ''
  axes.axvline(
    x,
    linestyle=':',
    linewidth=1.3,
    color=method_color(REFERENCE[0]),
    zorder=1,
    label=f'independent encoder: self {x:.1f}{cross}',
  )


def _draw_frontier(axes: Axes, rivals: pd.DataFrame) -> None:
  """Draws the frontier to the edges of the plot."""
  means = frontier(_means(rivals))
  left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
  axes.step(
    [left, *means['self'], means['self'].iloc[-1]],
    [means['cross'].iloc[0], *means['cross'], bottom],
    where='pre',
    linewidth=0.9,
    color='#A6A6A6',
    zorder=0.9,
    label='frontier of the means',
    # The plot is as large as its points ask for, whatever leads out of it.
    scalex=False,
    scaley=False,
  )


def _add_legends(figure: Figure, starts: pd.Index) -> None:
  markers = [
    Line2D(
      [],
      [],
      linestyle='',
      marker=start_marker(start),
      markersize=7,
      color=_GREY,
      label=f'{"adapter" if read_start(start).adapter else "start"}: '
      + start_label(start),
    )
    for start in starts
  ]
  lines, _ = figure.axes[0].get_legend_handles_labels()
  style: dict[str, Any] = {
    'columnspacing': 1.4,
    'handletextpad': 0.5,
    'frameon': False,
    'fontsize': 8.5,
  }
  # Names of adapters are long, and there may be many.
  figure.legend(handles=markers, loc='outside upper left', ncols=4, **style)
  figure.legend(handles=lines, loc='outside lower left', ncols=3, **style)


def _label_points(axes: Axes, means: pd.DataFrame) -> None:
  """Writes rows' labels beside their points, off markers and other labels."""
  labelled = _least_dominated(means[['self', 'cross']])
  texts = [
    axes.text(
      x,
      y,
      row_label(method, start),
      ha='center',
      va='center',
      fontsize=8.5,
      # Letters are thinner than markers and need more contrast to white.
      color=[0.75 * channel for channel in to_rgb(method_color(method))],
      # Labels may lie on error bars, which are too many to keep clear of.
      path_effects=[patheffects.withStroke(linewidth=2.5, foreground='white')],
      zorder=5,
    )
    for (method, start), x, y in labelled.itertuples()
  ]
  to_pixels, margin = axes.transData, _KEPT_CLEAR * axes.figure.dpi / 72
  adjust_text(
    texts,
    # It wants these in the units of the data, whose limits are final here.
    objects=[
      Bbox(to_pixels.inverted().transform([point - margin, point + margin]))
      for point in to_pixels.transform(means[['self', 'cross']])
    ],
    target_x=labelled['self'],
    target_y=labelled['cross'],
    ax=axes,
    # Found by trial on the grids of docs/comparison: with the defaults, which
    # are softer, labels of crowded points stay on each other.
    force_text=(0.5, 1.0),
    force_static=(0.3, 0.5),
    # In the stead of a time limit, which would make plots differ by the load.
    iter_lim=100,
    arrowprops={'arrowstyle': '-', 'linewidth': 0.6, 'color': _GREY},
  )


def _least_dominated(means: pd.DataFrame) -> pd.DataFrame:
  """The 40 rows that the fewest others are above in both figures."""
  values = means.to_numpy()
  above = (values[:, None] < values[None]).all(axis=2).sum(axis=1)
  chosen = np.argsort(above, kind='stable')[:_MOST_LABELS]
  return means.iloc[np.sort(chosen)]
