"""The files that a comparison leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
import json
import pathlib
from typing import TYPE_CHECKING

from advbct_jax.atomic_files import write_text
from advbct_jax.comparison.results import CellResult, write_results
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.retrieval.protocols import protocol_of

if TYPE_CHECKING:
  import pandas as pd


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
      `table.csv`, `table.json`, and `UPGRADE-DATASET.png`, self against cross;
      where cells were judged by refresh policies also `refresh.csv` and
      `UPGRADE-DATASET-refresh.png`.
    against: METHOD/START of a row that the others are held against, seed by
      seed, in each upgrade that has it; '' for none.

  Returns:
    The tables in Markdown.

  Raises:
    InputError: if the cells don't go together, or none is of that row.
  """
  # Here, for these need pandas, SciPy and Matplotlib: seconds that neither
  # --help nor each job's process shall pay.
  from advbct_jax.comparison import (
    averages,
    differences,
    dominance,
    plots,
    refresh_plots,
    refresh_tables,
    tables,
  )

  figures = averages.tabulate(cells, metrics)
  reference = differences.require_row(figures, against) if against else None
  curves = refresh_tables.tabulate_refresh(cells, figures)
  write_results(cells, root / 'results.json')
  sections = ['# Comparison', tables.markdown(figures)]
  for (upgrade, dataset), part in figures.groupby(
    ['upgrade', 'dataset'], sort=False
  ):
    rows = part.set_index(['method', 'start'])
    if not averages.leave_out_reference(rows).empty:
      name = f'{upgrade}-{dataset}.png'
      plots.plot_tradeoff(part, root / name)
      sections.append(f'![Self against cross, {upgrade}, {dataset}]({name})')
      sections.append(dominance.describe_dominance(part))
    if reference and reference in rows.index:
      sections.append(differences.describe_differences(part, reference))
    if curves.empty:
      continue
    is_here = (curves['upgrade'] == upgrade) & (curves['dataset'] == dataset)
    if (refreshed := curves[is_here]).empty:
      continue
    name = f'{upgrade}-{dataset}-refresh.png'
    refresh_plots.plot_refresh(refreshed, root / name)
    sections.append(refresh_tables.describe_refresh(refreshed))
    sections.append(f'![While it is re-embedded, {upgrade}, {dataset}]({name})')
  text = '\n\n'.join(sections) + '\n'
  write_text(root / 'table.md', text)
  flat = tables.flatten(figures)
  _write_csv(flat, root / 'table.csv')
  if not curves.empty:
    _write_csv(refresh_tables.flatten_refresh(curves), root / 'refresh.csv')
  # Through pandas, which writes null for NaN, as JSON wants it.
  rows = json.loads(flat.to_json(orient='records', double_precision=15))
  write_text(root / 'table.json', json.dumps({'rows': rows}, indent=2) + '\n')
  return text


def _write_csv(table: pd.DataFrame, path: pathlib.Path) -> None:
  write_text(path, table.round(6).to_csv(index=False, lineterminator='\n'))
