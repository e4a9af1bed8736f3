"""The files that a chain of upgrades leaves behind."""

from collections.abc import Sequence
import json
import pathlib
from typing import Any

import numpy as np

from advbct_jax.atomic_files import write_text
from advbct_jax.chains.steps import Step
from advbct_jax.retrieval.matrix_report import (
  plot_matrix,
  render_matrix,
  render_table,
)


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
    render_table(
      [['step', *described[0]], *map(_row, enumerate(described, 1))]
    ),
  ]
  for name, measured in results['datasets'].items():
    picture = f'chain-{name}.png'
    matrix = np.array(measured['matrices'][measured['main_metric']])
    plot_matrix(
      matrix,
      _worse_than_before(matrix),
      _numbers(matrix),
      f'{name}, {measured["main_metric"]} (%)\nframed: worse than before',
      root / picture,
      xlabel='gallery of step',
      ylabel='queries of step',
    )
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
  table = render_matrix(matrix, _worse_than_before(matrix), _numbers(matrix))
  return f'{table}\n\n{text}'


def _worse_than_before(matrix: np.ndarray) -> np.ndarray:
  """[T, T] where later queries find less than the gallery's own did."""
  return np.tril(matrix < matrix.diagonal(), -1)


def _numbers(matrix: np.ndarray) -> list[str]:
  return [str(number) for number in range(1, len(matrix) + 1)]


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
