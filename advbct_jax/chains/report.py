"""The files that a chain of upgrades leaves behind."""

from collections.abc import Sequence
import json
import pathlib
from typing import Any

import numpy as np

from advbct_jax.atomic_files import write_text
from advbct_jax.chains.steps import Step
from advbct_jax.plot_style import save_figure


def write_chain(
  results: dict[str, Any], steps: Sequence[Step], root: pathlib.Path
) -> str:
  """Writes the report of a chain.

  Args:
    results: what `measure_chain` returned.
    steps: of the chain.
    root: gets `chain.json`, `chain.md` and, for each data set,
      `chain-DATASET.png`, the matrix as a heat map.

  Returns:
    The report in Markdown.
  """
  root.mkdir(parents=True, exist_ok=True)
  described = [_describe(step) for step in steps]
  write_text(
    root / 'chain.json',
    json.dumps({**results, 'steps': described}, indent=2) + '\n',
  )
  sections = [
    '# Chain of upgrades',
    _table([['step', *described[0]], *map(_row, enumerate(described, 1))]),
  ]
  for name, measured in results['datasets'].items():
    picture = f'chain-{name}.png'
    matrix = np.array(measured['matrices'][measured['main_metric']])
    _plot_matrix(matrix, f'{name}, {measured["main_metric"]}', root / picture)
    sections += [f'## {name}', render(measured), f'![{name}]({picture})']
  text = '\n\n'.join(sections) + '\n'
  write_text(root / 'chain.md', text)
  return text


def render(measured: dict[str, Any]) -> str:
  """Lays the matrix of one data set out, and says what it comes to.

  Args:
    measured: of one set of `measure_chain`.

  Returns:
    Markdown: a table, in which a star marks what is worse than the queries of
    the gallery's own encoder, and the scores.
  """
  matrix = np.array(measured['matrices'][measured['main_metric']])
  numbers = range(1, len(matrix) + 1)
  rows = [['queries', *(f'gallery {number}' for number in numbers)]]
  for row, figures in enumerate(matrix):
    worse = (figures < matrix.diagonal()) & (np.arange(len(matrix)) < row)
    rows.append(
      [
        str(row + 1),
        *(
          f'{figure:.2f}{"*" * bool(star)}'
          for figure, star in zip(figures, worse, strict=True)
        ),
      ]
    )
  upgrades = len(matrix) * (len(matrix) - 1) // 2
  compatible = measured['average_compatibility']
  text = (
    f'`{measured["main_metric"]}` in percent: queries of each step on the '
    'gallery of each. A star: worse on an earlier gallery than that '
    "step's own queries.\n\n"
    f'Average compatibility {compatible:.3f} '
    f'({round(compatible * upgrades)} of {upgrades} are not worse)'
  )
  without = measured['average_compatibility_counting_ties']
  if without != compatible:
    text += f', {without:.3f} where a tie counts as worse'
  text += f'; average accuracy {measured["average_accuracy"]:.2f}.'
  return f'{_table(rows)}\n\n{text}'


def _describe(step: Step) -> dict[str, str]:
  """What tells a step from the others, in words."""
  config = step.config
  if config is None:
    return {
      'method': 'given',
      'tied to': '',
      'encoder': str(step.path),
      'share of the training set': '',
      'epochs': '',
    }
  return {
    'method': config.method,
    'tied to': step.tie,
    'encoder': config.model.architecture,
    'share of the training set': f'{config.data.split.new_fraction:g}',
    'epochs': str(config.epochs),
  }


def _row(numbered: tuple[int, dict[str, str]]) -> list[str]:
  number, described = numbered
  return [str(number), *described.values()]


def _table(rows: Sequence[Sequence[str]]) -> str:
  head, *body = (f'| {" | ".join(row)} |' for row in rows)
  return '\n'.join([head, f'| {" | ".join(["---"] * len(rows[0]))} |', *body])


def _plot_matrix(matrix: np.ndarray, title: str, path: pathlib.Path) -> None:
  """Draws a matrix as a heat map, in a frame what is worse than before."""
  # Imported here: it takes half a second, which every command would pay for.
  from matplotlib.figure import Figure
  from matplotlib.patches import Rectangle

  count = len(matrix)
  figure = Figure(figsize=(1.2 + 0.8 * count, 1.4 + 0.8 * count))
  axes = figure.add_subplot()
  axes.imshow(matrix, cmap='cividis')
  middle = (matrix.min() + matrix.max()) / 2
  for (row, column), value in np.ndenumerate(matrix):
    axes.text(
      column,
      row,
      f'{value:.1f}',
      ha='center',
      va='center',
      color='black' if value > middle else 'white',
    )
    if column < row and value < matrix[column, column]:
      corner = (column - 0.47, row - 0.47)
      axes.add_patch(
        Rectangle(corner, 0.94, 0.94, fill=False, edgecolor='#D55E00', lw=2)
      )
  numbers = [str(number) for number in range(1, count + 1)]
  axes.set_xticks(range(count), numbers)
  axes.set_yticks(range(count), numbers)
  axes.set_xlabel('gallery of step')
  axes.set_ylabel('queries of step')
  axes.set_title(f'{title} (%)\nframed: worse than before', fontsize=10)
  axes.spines[:].set_visible(False)
  save_figure(figure, path)
