"""The report of an evaluation: a table, what it says, and two plots."""

from collections.abc import Sequence
import pathlib
import textwrap
from typing import Any

from advbct_jax.atomic_files import write_text
from advbct_jax.retrieval.plots import plot_refresh, plot_results

_SIDES = ('old', 'self', 'cross', 'independent')

_SIDE_MEANINGS = {
  'old': (
    'old queries against the old gallery: the service before the upgrade, and '
    'what the upgrade has to beat'
  ),
  'self': (
    'new queries against a gallery that the new encoder has re-embedded: what '
    'a whole backfill would give'
  ),
  'cross': (
    'new queries against the old gallery, untouched: what the upgrade gives at '
    'once. The encoders are compatible where it is above *old*'
  ),
  'independent': (
    'the same new model trained without any tie to the old one, on both sides: '
    'what *self* could have been without compatibility'
  ),
}

_SCORE_MEANINGS = {
  'p_up': (
    'P_up, what compatibility costs the new encoder: 50 where *self* equals '
    '*independent*, more where it is better'
  ),
  'p_comp': (
    'P_comp, what new queries gain on the old gallery: 50 where *cross* equals '
    '*old*, 73.1 where it reaches *independent*'
  ),
  'p_1': 'P_1, the mean over data sets of the harmonic mean of the two',
}

_METRIC_MEANINGS = {
  'revisited': (
    '`map` is mean average precision (trapezoidal, over the whole gallery), '
    '`mp@k` mean precision among the first k. *Easy* looks for easy images, '
    '*medium* for easy and hard ones, *hard* for hard ones; the other grades '
    'and junk are taken out of the ranking, and a query with nothing to find '
    'is left out.'
  ),
  'gldv2': (
    '`map@100` is the mean over the queries of Σ_j j/rank_j / min(#relevant, '
    '100), over the hits j in the first 100; *private* and *public* are the '
    'published subsets of the queries.'
  ),
}

_OVERLAPPING = {'roxford5k', 'rparis6k'}

_OVERLAP_WARNING = (
  "**Mind the overlap:** GLDv2's training set contains landmarks, and photos, "
  'of Oxford and Paris that ROxford and RParis ask for. Where an encoder was '
  'trained on it without removing them, its figures on these sets are too '
  'good.'
)


def print_results(results: dict[str, Any]) -> None:
  """Prints the tables of an evaluation, in percent, and what they say.

  Args:
    results: what `evaluation.evaluate` returned.
  """
  for name, rows in tables(results).items():
    print(f'\n{name}, in percent\n{_align(rows)}')
    print(textwrap.fill(_read(results, name).replace('`', '').replace('*', '')))
  for score, value in results['scores'].items():
    print(f'{score}: {value:.2f}')


def write_report(results: dict[str, Any], workdir: pathlib.Path) -> None:
  """Writes the report of an evaluation.

  Args:
    results: what `evaluation.evaluate` returned.
    workdir: gets `report.md`, `results.png` and, where new vectors were held
      against old ones, `refresh.png`.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  plot_results(results, workdir / 'results.png')
  if _has_curves(results):
    plot_refresh(results, workdir / 'refresh.png')
  write_text(workdir / 'report.md', render(results))


def tables(results: dict[str, Any]) -> dict[str, list[list[str]]]:
  """Lays the figures of each data set out in rows and columns.

  Args:
    results: what `evaluation.evaluate` returned.

  Returns:
    For each data set its rows, the head first: the metric, then a figure in
    percent for each side that was judged.
  """
  laid_out = {}
  for name, figures in results['datasets'].items():
    sides = [side for side in _SIDES if side in figures]
    laid_out[name] = [
      ['metric', *sides],
      *(
        [metric, *(f'{figures[side][metric]:.2f}' for side in sides)]
        for metric in figures['self']
      ),
    ]
  return laid_out


def render(results: dict[str, Any]) -> str:
  """Writes the report in Markdown.

  Args:
    results: what `evaluation.evaluate` returned.

  Returns:
    The text of `report.md`; it shows the plots beside it.
  """
  sections = [
    '# Evaluation',
    '## What was compared',
    _describe_encoders(results['encoders']),
    '## Results',
    'In percent. '
    + ' '.join(
      f'*{side.capitalize()}*: {_SIDE_MEANINGS[side]}.'
      for side in _SIDES
      if any(side in figures for figures in results['datasets'].values())
    ),
    '![Main metric of each data set](results.png)',
  ]
  for name, rows in tables(results).items():
    sections += [f'### {name}', _markdown(rows), _read(results, name)]
  if results['scores']:
    sections += ['## Scores', _describe_scores(results)]
  if _has_curves(results):
    sections += [
      '## Refresh curve',
      'New queries while the gallery is re-embedded image by image, in random '
      'order; the main metric in percent. At 0% this is *cross*, at 100% '
      '*self*.',
      _markdown(_refresh_rows(results)),
      '![Main metric while the gallery is refreshed](refresh.png)',
    ]
  sections += ['## Protocol', _describe_protocol(results)]
  return '\n\n'.join(sections) + '\n'


def _describe_encoders(encoders: dict[str, dict[str, Any]]) -> str:
  fields = (
    'encoder',
    'weights',
    'dimension',
    'compatible_dimension',
    'preprocessing',
    'compute_dtype',
  )
  return _markdown(
    [
      ['', *encoders],
      *(
        [field, *(str(encoder[field]) for encoder in encoders.values())]
        for field in fields
      ),
    ]
  )


def _read(results: dict[str, Any], name: str) -> str:
  """Says in a paragraph what the main metric of a data set means."""
  figures = results['datasets'][name]
  metric = results['protocol'][name]['main_metric']
  backfilled = figures['self'][metric]
  if 'old' not in figures:
    return f'`{metric}` is {backfilled:.2f} with the new encoder on both sides.'
  old = figures['old'][metric]
  if 'cross' not in figures:
    return (
      f'Re-embedding the whole gallery takes `{metric}` from {old:.2f} to '
      f'{backfilled:.2f} ({backfilled - old:+.2f}).'
    )
  cross = figures['cross'][metric]
  verdict = (
    'the encoders are compatible'
    if cross > old
    else 'the encoders are **not** compatible: on the old gallery, old queries '
    'do as well or better'
  )
  return (
    f'Deploying the new encoder for queries alone takes `{metric}` from '
    f'{old:.2f} to {cross:.2f} ({cross - old:+.2f}); {verdict}. Re-embedding '
    f'the whole gallery takes it to {backfilled:.2f} '
    f'({backfilled - old:+.2f}).'
  )


def _describe_scores(results: dict[str, Any]) -> str:
  lines = [
    f'- {_SCORE_MEANINGS[score]}: **{value:.2f}**'
    for score, value in results['scores'].items()
  ]
  for name, figures in results['datasets'].items():
    metric = results['protocol'][name]['main_metric']
    if figures['independent'][metric] < figures['old'][metric]:
      lines.append(
        f'- On {name} *independent* is below *old*: there was nothing to gain, '
        'and P_comp says nothing about this data set'
      )
  return '\n'.join(lines)


def _has_curves(results: dict[str, Any]) -> bool:
  return all('refresh' in figures for figures in results['datasets'].values())


def _refresh_rows(results: dict[str, Any]) -> list[list[str]]:
  curves = {
    name: figures['refresh'] for name, figures in results['datasets'].items()
  }
  steps = next(iter(curves.values()))
  return [
    ['re-embedded', *curves],
    *(
      [f'{step}%', *(f'{curve[step]:.2f}' for curve in curves.values())]
      for step in steps
    ),
  ]


def _describe_protocol(results: dict[str, Any]) -> str:
  protocol = results['protocol']
  lines = [
    '- Search is exact, by cosine similarity.',
    *(
      f'- {role} encoder, preprocessing: {encoder["preprocessing"]}'
      for role, encoder in results['encoders'].items()
    ),
  ]
  new = results['encoders']['new']
  beside_old = results['encoders'].get('adapted', new)
  if beside_old is not new:
    lines.append(
      '- While there are old vectors in a gallery, the new embeddings, queries '
      f'and re-embedded images, are mapped by an adapter '
      f'({beside_old["encoder"]}); *self* takes them as they are.'
    )
  if recycled := results['encoders'].get('recycled'):
    lines.append(
      '- The old gallery is mapped into the new space by an adapter '
      f'({recycled["encoder"]}) where new queries search it; *old* takes it as '
      'it is.'
    )
  if part := beside_old['compatible_dimension']:
    lines.append(
      f'- While there are old vectors in a gallery, the first {part} '
      'components of the new embeddings are compared; *self* takes all '
      f'{new["dimension"]}.'
    )
  for name, facts in protocol.items():
    crop = (
      'cropped to their boxes'
      if facts['query_crop']
      else 'taken whole (not cropped to a box)'
    )
    lines.append(
      f'- {name}: {facts["queries"]} queries, {crop}; {facts["gallery"]} '
      f'gallery images; main metric `{facts["main_metric"]}`.'
    )
  judged = {facts['kind'] for facts in protocol.values()}
  lines += [
    f'- {meaning}'
    for kind, meaning in _METRIC_MEANINGS.items()
    if kind in judged
  ]
  text = '\n'.join(lines)
  overlaps = not _OVERLAPPING.isdisjoint(protocol)
  return f'{text}\n\n{_OVERLAP_WARNING}' if overlaps else text


def _markdown(rows: Sequence[Sequence[str]]) -> str:
  head, *body = rows
  rule = ['---', *('---:' for _ in head[1:])]
  return '\n'.join(f'| {" | ".join(row)} |' for row in (head, rule, *body))


def _align(rows: Sequence[Sequence[str]]) -> str:
  """Pads columns with blanks, the first to the left, figures to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(
      [
        row[0].ljust(widths[0]),
        *(
          cell.rjust(width)
          for cell, width in zip(row[1:], widths[1:], strict=True)
        ),
      ]
    )
    for row in rows
  )
