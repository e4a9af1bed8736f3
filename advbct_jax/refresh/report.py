"""Refresh curves as tables and a plot."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from advbct_jax.atomic_files import write_text
from advbct_jax.plot_style import LINE_COLOURS, save_figure, strip_axes

NAME = 'refresh_policies'


def write_curves(results: dict[str, Any], workdir: pathlib.Path) -> None:
  """Writes `refresh_policies.json`, `.md` and `.png`.

  Args:
    results: for each data set what `measure_curves` returned.
    workdir: where to.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  write_text(workdir / f'{NAME}.json', json.dumps(results, indent=2) + '\n')
  _plot(results, workdir / f'{NAME}.png')
  write_text(workdir / f'{NAME}.md', render_curves(results))


def print_curves(results: dict[str, Any], workdir: pathlib.Path) -> None:
  """Prints a table of each data set, and where the report lies."""
  for name, measured in results.items():
    print(f'\n{name}, {measured["metric"]} in percent while it is re-embedded')
    for row in _rows(measured):
      print('  '.join([row[0].ljust(34), *(cell.rjust(6) for cell in row[1:])]))
    print(
      f'old {measured["old"]:.2f}, self {measured["self"]:.2f}; area: the part '
      'of the way from old to self, in the mean over the refresh'
    )
  print(f'\nreport: {workdir / NAME}.md')


def render_curves(results: dict[str, Any]) -> str:
  """Writes the report in Markdown; see `write_curves`."""
  sections = [
    '# Refresh policies',
    'The main metric in percent while the gallery is re-embedded, the mean '
    'over orders by several seeds. *Area*: which part of the way from old to '
    'self was gone, in the mean over the refresh. *Above from*: the share from '
    'which the curve stays at or above old. *Worst*: its lowest point less '
    'old. *Lost*: percent of the queries whose first result was right before '
    'the upgrade and is not at 10% (nearest share). *Calls*: things that a '
    'query has embedded at 0%.',
    f'![The main metric by share of the gallery]({NAME}.png)',
  ]
  for name, measured in results.items():
    head, *body = _rows(measured)
    table = [head, ['---', *('---:' for _ in head[1:])], *body]
    sections += [
      f'## {name}',
      f'`{measured["metric"]}`: old {measured["old"]:.2f}, self '
      f'{measured["self"]:.2f}.',
      '\n'.join(f'| {" | ".join(row)} |' for row in table),
    ]
  return '\n\n'.join(sections) + '\n'


def _rows(measured: dict[str, Any]) -> list[list[str]]:
  shares = measured['shares']
  tenth = min(range(len(shares)), key=lambda place: abs(shares[place] - 10))
  orders = {curve['order'] for curve in measured['curves']}
  rows = [
    [
      'policy',
      *(f'{share}%' for share in shares),
      'area',
      'above from',
      'worst',
      'lost',
      'calls',
    ]
  ]
  for curve in measured['curves']:
    label = curve['label']
    if len(orders) > 1:
      label = f'{label}, {curve["order"]}'
    area, above = curve['area'], curve['above_from']
    rows.append(
      [
        label,
        *(f'{value:.1f}' for value in curve['mean']),
        '' if area is None else f'{area:.2f}',
        'never' if above is None else f'{above}%',
        f'{curve["worst"]:+.1f}',
        f'{curve["negative_flips"][tenth]:.1f}',
        f'{curve["calls"][0]:.0f}',
      ]
    )
  return rows


def _plot(results: dict[str, Any], path: pathlib.Path) -> None:
  """Draws the curves of each data set side by side."""
  from matplotlib.figure import Figure

  columns = min(1 + len(results), 4)  # of the legend, as many as find room
  lines = max(len(measured['curves']) for measured in results.values())
  figure = Figure(
    figsize=(1.2 + 4.8 * len(results), 4 + 0.2 * -(-lines // columns))
  )
  panels = figure.subplots(1, len(results), squeeze=False)[0]
  for axes, (name, measured) in zip(panels, results.items(), strict=True):
    for number, curve in enumerate(measured['curves']):
      label = curve['label']
      if len({one['order'] for one in measured['curves']}) > 1:
        label = f'{label}, {curve["order"]}'
      axes.errorbar(
        measured['shares'],
        curve['mean'],
        curve['deviation'],
        marker='osD^vPX*'[number % 8],
        markersize=4,
        linewidth=2 if curve['policy'].startswith('auto') else 1.2,
        color=LINE_COLOURS[number % len(LINE_COLOURS)],
        linestyle=('-', '--', ':')[number // len(LINE_COLOURS) % 3],
        label=label,
      )
    axes.axhline(measured['old'], color='#8C8C8C', linestyle='--', linewidth=1)
    axes.set_title(f'{name}\n{measured["metric"]}', fontsize=10)
    axes.set_xlabel('gallery re-embedded (%)')
    strip_axes(axes)
  panels[0].set_ylabel('percent (dashed grey: old)')
  figure.legend(
    *panels[0].get_legend_handles_labels(),
    loc='outside lower center',
    ncols=columns,
    frameon=False,
    fontsize=8,
  )
  save_figure(figure, path)
