"""The files that a comparison leaves behind."""

from collections.abc import Sequence
import pathlib

from advbct_jax.atomic_files import write_text
from advbct_jax.comparison.differences import (
  describe_differences,
  find_references,
)
from advbct_jax.comparison.dominance import describe_dominance
from advbct_jax.comparison.plots import plot_tradeoff
from advbct_jax.comparison.results import CellResult, write_results
from advbct_jax.comparison.summary import by_upgrade, summarize
from advbct_jax.comparison.tables import csv_text, json_text, markdown
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.retrieval.protocols import protocol_of


def main_metrics(retrieval_sets: Sequence[RetrievalSet]) -> list[str]:
  """The metrics that tables show, each that of one set or of several."""
  return list(
    dict.fromkeys(protocol_of(one).main_metric for one in retrieval_sets)
  )


def write_tables(
  cells: Sequence[CellResult],
  metrics: Sequence[str],
  root: pathlib.Path,
  against: str = '',
) -> str:
  """Writes tables and plots of all cells.

  Args:
    cells: what was measured, at least one.
    metrics: of which the tables show, for each data set, the first that it
      has; `results.json` has them all.
    root: gets `results.json` with every figure of every cell, `table.md`,
      `table.csv`, `table.json`, and `UPGRADE-DATASET.png`, self against cross.
    against: METHOD/START of a row that the others are held against, seed by
      seed, in each upgrade that has it; '' for none.

  Returns:
    The tables in Markdown.

  Raises:
    InputError: if the cells don't go together, or none is of that row.
  """
  rows = summarize(cells, metrics)
  references = find_references(rows, against) if against else {}
  write_results(cells, root / 'results.json')
  sections = ['# Comparison', markdown(rows)]
  for upgrade, part in by_upgrade(rows).items():
    for dataset in part[0].figures:
      if any(row.competes for row in part):
        name = f'{upgrade}-{dataset}.png'
        plot_tradeoff(part, dataset, root / name)
        sections.append(f'![Self against cross, {upgrade}, {dataset}]({name})')
        sections.append(describe_dominance(part, dataset))
      if upgrade in references:
        reference = references[upgrade]
        sections.append(describe_differences(part, dataset, reference))
  text = '\n\n'.join(sections) + '\n'
  write_text(root / 'table.md', text)
  write_text(root / 'table.csv', csv_text(rows))
  write_text(root / 'table.json', json_text(rows))
  return text
