"""What a matrix of encoders looks like: a table, a picture, files."""

from collections.abc import Sequence
import json
import pathlib
from typing import Any

import numpy as np

from advbct_jax.atomic_files import write_text
from advbct_jax.plot_style import save_figure


def write_matrices(
  results: dict[str, Any], names: Sequence[str], workdir: pathlib.Path
) -> str:
  """Writes the report of encoders that search each other's galleries.

  Args:
    results: what `measure_matrix` returned.
    names: [T] of the encoders.
    workdir: gets `matrix.json`, `matrix.md` and, for each data set,
      `matrix-DATASET.png`.

  Returns:
    The report in Markdown.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  write_text(
    workdir / 'matrix.json',
    json.dumps({**results, 'names': list(names)}, indent=2) + '\n',
  )
  sections = ["# Every encoder's queries on every encoder's gallery"]
  for name, measured in results['datasets'].items():
    picture = f'matrix-{name}.png'
    matrix = np.array(measured['matrices'][measured['main_metric']])
    # What these queries find in a gallery of their own encoder.
    worse = matrix < matrix.diagonal()[:, None]
    plot_matrix(
      matrix,
      worse,
      names,
      f'{name}, {measured["main_metric"]} (%)\n'
      'framed: worse than on their own gallery',
      workdir / picture,
      xlabel='gallery',
      ylabel='queries',
    )
    sections += [
      f'## {name}',
      render_matrix(matrix, worse, names),
      f'`{measured["main_metric"]}` in percent. A star: these queries find '
      'less there than in the gallery of their own encoder.',
      f'![{name}]({picture})',
    ]
  text = '\n\n'.join(sections) + '\n'
  write_text(workdir / 'matrix.md', text)
  return text


def render_matrix(
  matrix: np.ndarray, worse: np.ndarray, names: Sequence[str]
) -> str:
  """Lays a matrix out as a table in Markdown.

  Args:
    matrix: [T, T] percent, queries down and galleries across.
    worse: [T, T] which of them get a star.
    names: [T] of the encoders.
  """
  rows = [['queries', *(f'gallery {name}' for name in names)]]
  for name, figures, stars in zip(names, matrix, worse, strict=True):
    rows.append(
      [
        name,
        *(
          f'{figure:.2f}{"*" * bool(star)}'
          for figure, star in zip(figures, stars, strict=True)
        ),
      ]
    )
  return render_table(rows)


def render_table(rows: Sequence[Sequence[str]]) -> str:
  """Lays rows out as a table in Markdown; the first is its head."""
  head, *body = (f'| {" | ".join(row)} |' for row in rows)
  return '\n'.join([head, f'| {" | ".join(["---"] * len(rows[0]))} |', *body])


def plot_matrix(
  matrix: np.ndarray,
  worse: np.ndarray,
  names: Sequence[str],
  title: str,
  path: pathlib.Path,
  *,
  xlabel: str,
  ylabel: str,
) -> None:
  """Draws a matrix as a heat map.

  Args:
    matrix: [T, T] percent, queries down and galleries across.
    worse: [T, T] which of them get a frame.
    names: [T] of the encoders.
    title: of the picture.
    path: of the .png.
    xlabel: what the columns are.
    ylabel: what the rows are.
  """
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
    if worse[row, column]:
      corner = (column - 0.47, row - 0.47)
      axes.add_patch(
        Rectangle(corner, 0.94, 0.94, fill=False, edgecolor='#D55E00', lw=2)
      )
  axes.set_xticks(range(count), names)
  axes.set_yticks(range(count), names)
  axes.set_xlabel(xlabel)
  axes.set_ylabel(ylabel)
  axes.set_title(title, fontsize=10)
  axes.spines[:].set_visible(False)
  save_figure(figure, path)
