"""Means over seeds as tables, in Markdown, CSV and JSON."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from advbct_jax.comparison.averages import (
  ROW,
  SCORES,
  average,
  average_old,
  leave_out_reference,
  pooled_stds,
  sample_text,
)
from advbct_jax.comparison.labels import (
  REFERENCE,
  method_label,
  start_label,
)

_SCORE_HEADS = dict(zip(SCORES, ['P_up', 'P_comp', 'P_1'], strict=True))
NOTHING = '–'


def markdown(figures: pd.DataFrame) -> str:
  """Lays figures out as the tables of a paper.

  Args:
    figures: of `averages.tabulate`.

  Returns:
    For each upgrade a heading, a caption and a table: the old encoder, then
    the rows in their order. The best of each column is bold, the second
    underlined, and what is no different from the best has a dagger.
  """
  return '\n\n'.join(
    f'### {upgrade}\n\n{" ".join(_caption(part))}\n\n{_table(part)}'
    for upgrade, part in figures.groupby('upgrade', sort=False)
  )


def flatten(figures: pd.DataFrame) -> pd.DataFrame:
  """Averages figures to plain columns.

  Args:
    figures: of `averages.tabulate`.

  Returns:
    A line for each row and data set: mean and std of `old`, `self` and `cross`,
    with `n` seeds, and of the scores, with `scores_n`. The scores are over all
    data sets of the upgrade, and so the same in each of its lines. NaN where
    there is nothing.
  """
  means = average(figures, [*ROW, 'dataset', 'metric'])
  n, scores_n = means['self', 'n'], means['p_1', 'n']
  means = means.drop(columns='n', level=1)
  means.columns = [f'{figure}_{statistic}' for figure, statistic in means]
  means.insert(0, 'n', n)
  means.insert(means.columns.get_loc('p_up_mean'), 'scores_n', scores_n)
  return means.reset_index()


def lay_out(columns: Mapping[str, Sequence[str]], names: int = 2) -> str:
  """Writes a table in Markdown: columns of names, then figures.

  Args:
    columns: what stands below each head.
    names: how many of them are of names.
  """
  rule = ['---' if n < names else '---:' for n in range(len(columns))]
  lines = [columns.keys(), rule, *zip(*columns.values(), strict=True)]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _caption(part: pd.DataFrame) -> Iterator[str]:
  """The sentences above the table of an upgrade."""
  rows = part.groupby(['method', 'start'], sort=False)
  seeds = rows['seed'].nunique()
  spread = seeds.max() > 1
  over = ''
  if seeds.nunique() == 1:
    over = f' over {seeds.max()} seeds' if spread else ' of a single seed'
  yield (
    f'{_metrics(part)} in percent, '
    f'{"mean ± standard deviation" if spread else "figures"}{over}.'
  )
  yield (
    'Among the methods and adapters that can serve the old gallery, the best '
    'of each column is **bold** and the second <u>underlined</u>'
  ) + (
    '; † marks those within one pooled standard deviation of the best: no '
    'different from it.'
    if spread
    else '.'
  )
  if part['p_1'].notna().any():
    yield (
      'Scores are over all data sets; P_up is 50 at the independent '
      "encoder's own self-test."
    )
  else:
    yield (
      'No scores: they need the independent encoder of the same seeds '
      '(independent/fresh).'
    )
  scored = part.dropna(subset='p_1').groupby(['method', 'start'], sort=False)
  for (method, start), n in scored['seed'].nunique().items():
    if n < seeds[method, start]:
      yield (
        f'Scores of {method_label(method)} ({start_label(start)}): {n} of '
        f'{seeds[method, start]} seeds only.'
      )
  for dataset, of_set in part.groupby('dataset', sort=False):
    means = average(of_set, ['method', 'start'])
    if REFERENCE in means.index:
      reference = means.loc[REFERENCE]
      # P_comp then divides by less than nothing: worse looks better.
      if reference['self', 'mean'] <= reference['old', 'mean']:
        yield (
          f'On {dataset} the independent encoder is not above the old one: '
          'there was nothing to gain, and P_comp says nothing about this data '
          'set.'
        )


def _metrics(part: pd.DataFrame) -> str:
  chosen = part.groupby('dataset', sort=False)['metric'].first()
  if chosen.nunique() == 1:
    return f'`{chosen.iloc[0]}`'
  return ', '.join(f'`{metric}` of {name}' for name, metric in chosen.items())


def _table(part: pd.DataFrame) -> str:
  by_set = dict(list(part.groupby('dataset', sort=False)))
  means = {
    name: average(one, ['method', 'start']) for name, one in by_set.items()
  }
  olds = {name: average_old(one) for name, one in by_set.items()}
  first = next(iter(means.values()))
  columns = {
    'method': ['old encoder', *(method_label(key[0]) for key in first.index)],
    'start or adapter': [
      NOTHING,
      *(start_label(key[1]) for key in first.index),
    ],
  }
  seeds = first['self', 'n']
  if seeds.nunique() > 1:
    n = max(int(old['n']) for old in olds.values())
    columns['seeds'] = [str(n), *seeds.map(str)]
  for name, of_set in means.items():
    old = sample_text(olds[name])
    for side, of_old in (('self', old), ('cross', NOTHING)):
      rivals = leave_out_reference(of_set[side])
      columns[f'{name} {side}'] = [of_old, *mark(of_set[side], 1, rivals)]
  # The same on each data set.
  has_scores = part['p_1'].notna().any()
  for score, head in _SCORE_HEADS.items() if has_scores else ():
    rivals = leave_out_reference(first[score])
    columns[head] = [NOTHING, *mark(first[score], 2, rivals)]
  return lay_out(columns)


def mark(
  column: pd.DataFrame, digits: int, rivals: pd.DataFrame | None = None
) -> Iterator[str]:
  """Writes a column, with its best, second and undecided ones marked.

  Args:
    column: `mean`, `std` and `n` of the rows.
    digits: after the point.
    rivals: those of its rows that compete; None for all.
  """
  rivals = (column if rivals is None else rivals).dropna(subset='mean')
  # As they will be read: a tie to the reader is a tie.
  shown = rivals['mean'].map(lambda mean: round(mean, digits))
  places = shown.rank(method='dense', ascending=False)
  if not rivals.empty:
    best = rivals['mean'].argmax()
    behind = rivals['mean'].iloc[best] - rivals['mean']
    undecided = behind <= pooled_stds(rivals)[best]
  for key, sample in column.iterrows():
    if sample['n'] == 0:
      yield NOTHING
      continue
    text, place = sample_text(sample, digits), places.get(key)
    if place == 1:
      text = f'**{text}**'
    elif place == 2:
      text = f'<u>{text}</u>'
    if place is not None and place > 1 and undecided[key]:
      text += ' †'
    yield text
