"""Means over seeds as tables, in Markdown, CSV and JSON."""

from collections.abc import Mapping, Sequence
import csv
import io
import json

from advbct_jax.comparison.results import SIDES
from advbct_jax.comparison.summary import (
  SCORES,
  Row,
  Sample,
  by_upgrade,
  display_name,
  old_sample,
  pooled_std,
)

_SCORE_HEADS = {'p_up': 'P_up', 'p_comp': 'P_comp', 'p_1': 'P_1'}
_NOTHING = '–'


def markdown(rows: Sequence[Row]) -> str:
  """Lays rows out as the tables of a paper.

  Args:
    rows: of `summarize`.

  Returns:
    For each upgrade a heading, a caption and a table: the old encoder, then
    the rows in their order. The best of each column is bold, the second
    underlined, and what is no different from the best has a dagger.
  """
  return '\n\n'.join(
    f'### {upgrade}\n\n{_caption(part)}\n\n{_table(part)}'
    for upgrade, part in by_upgrade(rows).items()
  )


def records(rows: Sequence[Row]) -> list[dict[str, str | int | float | None]]:
  """Flattens rows to plain figures.

  Args:
    rows: of `summarize`.

  Returns:
    One record for each row and data set, all with the same fields: mean and
    std of `old`, `self` and `cross`, with `n` seeds, and of the scores, with
    `scores_n`. The scores are over all data sets of the upgrade, and so the
    same in each of its records. None where there is nothing.
  """
  flat: list[dict[str, str | int | float | None]] = []
  for row in rows:
    for dataset, sides in row.figures.items():
      record: dict[str, str | int | float | None] = {
        'upgrade': row.upgrade,
        'method': row.method,
        'start': row.start,
        'dataset': dataset,
        'metric': row.metrics[dataset],
        'n': len(row.seeds),
      }
      for side in SIDES:
        record[f'{side}_mean'] = sides[side].mean
        record[f'{side}_std'] = sides[side].std
      record['scores_n'] = row.scores['p_1'].n if row.scores else 0
      for score in SCORES:
        sample = row.scores.get(score)
        record[f'{score}_mean'] = sample.mean if sample else None
        record[f'{score}_std'] = sample.std if sample else None
      flat.append(record)
  return flat


def csv_text(rows: Sequence[Row]) -> str:
  """Writes `records` as CSV, to the sixth decimal.

  Args:
    rows: of `summarize`.

  Returns:
    The text, its head first; a field is empty where there is nothing. Empty
    where there are no rows.
  """
  flat = records(rows)
  if not flat:
    return ''
  text = io.StringIO()
  writer = csv.DictWriter(text, list(flat[0]), lineterminator='\n')
  writer.writeheader()
  for record in flat:
    writer.writerow(
      {
        field: round(value, 6) if isinstance(value, float) else value
        for field, value in record.items()
      }
    )
  return text.getvalue()


def json_text(rows: Sequence[Row]) -> str:
  """Writes `records` as JSON.

  Args:
    rows: of `summarize`.

  Returns:
    The text: a list under 'rows', null where there is nothing.
  """
  return json.dumps({'rows': records(rows)}, indent=2) + '\n'


def _caption(rows: Sequence[Row]) -> str:
  counts = {len(row.seeds) for row in rows}
  seeds = ''
  if len(counts) == 1:
    n = counts.pop()
    seeds = f' over {n} seeds' if n > 1 else ' of a single seed'
  spread = any(len(row.seeds) > 1 for row in rows)
  lines = [
    f'{_describe_metrics(rows[0].metrics)} in percent, '
    f'{"mean ± standard deviation" if spread else "figures"}{seeds}.',
    'Among the methods and adapters that can serve the old gallery, the best '
    'of each column is **bold** and the second <u>underlined</u>'
    + (
      '; † marks those within one pooled standard deviation of the best: no '
      'different from it.'
      if spread
      else '.'
    ),
  ]
  if any(row.scores for row in rows):
    lines.append(
      'Scores are over all data sets; P_up is 50 at the '
      "independent encoder's own self-test."
    )
  else:
    lines.append(
      'No scores: they need the independent encoder of the same seeds '
      '(independent/fresh).'
    )
  lines += [
    f'Scores of {_full_name(row)}: {row.scores["p_1"].n} of {len(row.seeds)} '
    'seeds only.'
    for row in rows
    if row.scores and row.scores['p_1'].n < len(row.seeds)
  ]
  reference = next((row for row in rows if not row.competes), None)
  lines += [
    f'On {dataset} the independent encoder is not above the old one: there was '
    'nothing to gain, and P_comp says nothing about this data set.'
    for dataset in rows[0].figures
    if reference
    and reference.figures[dataset]['self'].mean
    <= reference.figures[dataset]['old'].mean
  ]
  return ' '.join(lines)


def _describe_metrics(metrics: Mapping[str, str]) -> str:
  names = set(metrics.values())
  if len(names) == 1:
    return f'`{names.pop()}`'
  return ', '.join(
    f'`{name}` of {dataset}' for dataset, name in metrics.items()
  )


def _full_name(row: Row) -> str:
  return f'{display_name(row.method)} ({display_name(row.start)})'


def _table(rows: Sequence[Row]) -> str:
  datasets = list(rows[0].figures)
  olds = {dataset: old_sample(rows, dataset) for dataset in datasets}
  head, first = ['method', 'start or adapter'], ['old encoder', _NOTHING]
  body = [[display_name(row.method), display_name(row.start)] for row in rows]
  if len({len(row.seeds) for row in rows}) > 1:
    head.append('seeds')
    first.append(str(max(old.n for old in olds.values())))
    for line, row in zip(body, rows, strict=True):
      line.append(str(len(row.seeds)))

  def add(title: str, old: str, column: list[str]) -> None:
    head.append(title)
    first.append(old)
    for line, cell in zip(body, column, strict=True):
      line.append(cell)

  for dataset in datasets:
    old = olds[dataset].text()
    for side, of_old in (('self', old), ('cross', _NOTHING)):
      samples = [row.figures[dataset][side] for row in rows]
      add(f'{dataset} {side}', of_old, _column(rows, samples, 1))
  for score, title in _SCORE_HEADS.items():
    add(title, _NOTHING, _column(rows, [r.scores.get(score) for r in rows], 2))
  rule = ['---'] * 2 + ['---:'] * (len(head) - 2)
  return '\n'.join(
    f'| {" | ".join(line)} |' for line in (head, rule, first, *body)
  )


def _column(
  rows: Sequence[Row], samples: Sequence[Sample | None], digits: int
) -> list[str]:
  """Writes a column, with its best, second and undecided ones marked."""
  rivals = [
    sample
    for row, sample in zip(rows, samples, strict=True)
    if row.competes and sample is not None
  ]
  # As they will be read: a tie to the reader is a tie.
  places = sorted({round(sample.mean, digits) for sample in rivals})[::-1]
  best = max(rivals, key=lambda sample: sample.mean, default=None)
  column = []
  for row, sample in zip(rows, samples, strict=True):
    if sample is None:
      column.append(_NOTHING)
      continue
    text, shown = sample.text(digits), round(sample.mean, digits)
    if row.competes and best is not None:
      if shown == places[0]:
        text = f'**{text}**'
      else:
        noise = pooled_std(best, sample)
        if shown == places[1]:
          text = f'<u>{text}</u>'
        if noise is not None and best.mean - sample.mean <= noise:
          text += ' †'
    column.append(text)
  return column
