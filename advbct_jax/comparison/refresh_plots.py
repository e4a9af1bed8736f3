"""Refresh curves of a comparison in one plot."""

import pathlib

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
import pandas as pd

from advbct_jax.comparison.grid import ADAPTER_POLICY
from advbct_jax.comparison.labels import REFERENCE, policy_label, row_label
from advbct_jax.comparison.refresh_tables import REFRESH_ROW
from advbct_jax.comparison.starts import read_start
from advbct_jax.plot_style import LINE_COLOURS, save_figure, strip_axes

_GREY = '#C8C8C8'


def plot_refresh(curves: pd.DataFrame, path: pathlib.Path) -> None:
  """Draws the metric by the share of the gallery that is re-embedded.

  Each policy of the independent encoder has a line, and so has the best
  adapter and, for each policy, the best trained encoder. The others are grey,
  as far as there is room for them.

  Args:
    curves: of `refresh_tables.tabulate_refresh`, of one upgrade and data set.
    path: a .png to write.
  """
  figure = Figure(figsize=(8.6, 5.8))
  axes = figure.add_subplot()
  means = {
    key: (rows['shares'].iloc[0], np.mean(rows['values'].to_list(), axis=0))
    for key, rows in curves.groupby(REFRESH_ROW, sort=False)
  }
  for place, key in enumerate(_best_of_each_kind(means)):
    _draw(axes, place, _label(key), *means[key])
  old = curves.groupby('seed')['old'].mean().mean()
  axes.axhline(old, color='#6E6E6E', linestyle='--', linewidth=1.2)
  # The worst of many would leave the others no room.
  axes.autoscale(False)
  for shares, values in means.values():
    axes.plot(shares, values, color=_GREY, linewidth=0.8, zorder=1)
  first = curves.iloc[0]
  axes.set_title(f'{first["upgrade"]}, {first["dataset"]}', loc='left')
  axes.set_xlabel('gallery re-embedded (%)')
  axes.set_ylabel(f'{first["metric"]} (%); dashed: old')
  strip_axes(axes)
  figure.legend(
    loc='outside lower center', ncols=3, frameon=False, fontsize=8.5
  )
  save_figure(figure, path)


def _best_of_each_kind(
  means: dict[tuple[str, str, str], tuple[tuple[int, ...], np.ndarray]],
) -> list[tuple[str, str, str]]:
  """The rows with the largest areas: of each policy, untied and trained."""
  best: dict[tuple[bool, str], tuple[str, str, str]] = {}
  areas = {
    key: float(np.trapezoid(values, shares))
    for key, (shares, values) in means.items()
  }
  for key in means:
    method, _, policy = key
    kind = (method == REFERENCE[0], policy)
    if kind not in best or areas[key] > areas[best[kind]]:
      best[kind] = key
  return list(best.values())


def _label(key: tuple[str, str, str]) -> str:
  method, start, policy = key
  if (method, start) == REFERENCE:
    return policy_label(policy)
  row = row_label(method, start)
  kind = 'adapter' if read_start(start).adapter else 'trained'
  if policy in (ADAPTER_POLICY, 'trained'):
    return f'best {kind}: {row}'
  return f'{policy_label(policy)}, best {kind}: {row}'


def _draw(
  axes: Axes,
  place: int,
  label: str,
  shares: tuple[int, ...],
  values: np.ndarray,
) -> None:
  axes.plot(
    shares,
    values,
    color=LINE_COLOURS[place % len(LINE_COLOURS)],
    linestyle=('-', '--', ':')[place // len(LINE_COLOURS) % 3],
    marker='osD^vPX*'[place % 8],
    markersize=4,
    linewidth=1.5,
    zorder=2,
    label=label,
  )
