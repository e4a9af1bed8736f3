"""An embedding store becomes a FAISS index that a service reads.

The index is three files, `NAME.faiss`, `NAME.ids.txt` and the card `NAME.json`,
and `NAME.report.json` says what it costs in recall and gains in speed and size.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import pathlib
import time
from typing import Any

import numpy as np

from advbct_jax.atomic_files import write_text
from advbct_jax.embeddings.store import Card, EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.locks import hold_name
from advbct_jax.retrieval import index_quality, service_index
from advbct_jax.retrieval.index import write_index
from advbct_jax.retrieval.index_quality import Rate
from advbct_jax.retrieval.service_index import Recipe

_SUFFIX = '.faiss'
# Files of vectors that have ids and a card under the same names beside them.
_OTHER_VECTORS = ('.npy', '.npz', '.parquet', '.index')


def export_index(
  store: EmbeddingStore,
  out: pathlib.Path,
  recipe: Recipe,
  queries: EmbeddingStore | None = None,
  integer_ids: bool = False,
  compatible: bool = False,
  report: bool = True,
  seed: int = 0,
) -> dict[str, Any]:
  """Builds an index, writes it, and measures it.

  Args:
    store: N embeddings.
    out: `NAME.faiss`; what is there is replaced when the new one is built.
    recipe: what to build.
    queries: what to measure it with; None for vectors of the gallery.
    integer_ids: whether FAISS's ids are the store's own.
    compatible: whether only the first `compatible_dimension` components are
      exported; the card of the index then speaks of these alone.
    report: whether to measure it and write `NAME.report.json`.
    seed: chooses the training sample and the queries.

  Returns:
    What is in `NAME.report.json`; without `report` what was built alone.

  Raises:
    InputError: if the name, the recipe, the ids or the queries don't do, if
      there is no compatible part, if other vectors are there under this name,
      if another process builds it, or if the files cannot be written.
  """
  if out.suffix != _SUFFIX:
    raise InputError(
      f'{out}: found the suffix {out.suffix!r}, wanted {_SUFFIX!r}. Call it '
      f'{out.with_suffix(_SUFFIX)}.'
    )
  _require_own_name(out)
  card = _compatible_card(store) if compatible else store.card
  recipe = service_index.complete_recipe(recipe, card.count, card.dimension)
  if queries:
    index_quality.require_comparable_queries(queries, store, card.dimension)
  names = store.ids()
  ids = np.arange(card.count)
  if integer_ids:
    ids = service_index.integer_ids(names)
  # Before the hours that building may take; its folder is made, too.
  with hold_name(out, 'builds the index'):
    start = time.perf_counter()
    index = service_index.build_service_index(
      store, recipe, ids, seed, card.dimension
    )
    seconds = time.perf_counter() - start
    report_path = out.with_suffix('.report.json')
    with _writing(out):
      report_path.unlink(missing_ok=True)
      write_index(out.parent, out.stem, index, names, card)
    facts: dict[str, Any] = {
      'kind': recipe.kind,
      **recipe.options(),
      'vectors': card.count,
      'dimension': card.dimension,
      'build_seconds': seconds,
      'bytes_a_vector': {
        'index': out.stat().st_size / card.count,
        'exact': 4 * card.dimension,
      },
    }
    if report:
      measured = index_quality.measure_index(index, store, queries, seed)
      facts |= {'asked_with': str(queries.path if queries else store.path)}
      facts |= dataclasses.asdict(measured)
      with _writing(report_path):
        write_text(report_path, json.dumps(facts, indent=2) + '\n')
    return facts


def describe(facts: dict[str, Any]) -> str:
  """What `export_index` returns, as a small table."""
  options = ', '.join(
    f'{facts[name]} {name}' for name in service_index.OPTIONS[facts['kind']]
  )
  kind = f'{facts["kind"]} ({options})' if options else facts['kind']
  lines = [
    f'{kind}, {facts["vectors"]} × {facts["dimension"]}, built in '
    f'{facts["build_seconds"]:.1f} s',
    _row('', 'index', 'exact search'),
  ]
  for depth, recall in facts.get('recall', {}).items():
    lines.append(_row(f'recall@{depth}', f'{recall:.4f}', '1.0000'))
  size = facts['bytes_a_vector']
  lines.append(
    _row('bytes a vector', f'{size["index"]:.1f}', f'{size["exact"]:.1f}')
  )
  for speed in facts.get('speeds', ()):
    rates = Rate(**speed['index']), Rate(**speed['exact'])
    name = f'queries/s, {speed["queries"]} at once'
    lines.append(_row(name, *map(_spread, rates)))
  if 'speeds' in facts:
    threads = ', '.join(
      f'{speed["queries"]} at once on {speed["threads"]} '
      f'thread{"" if speed["threads"] == 1 else "s"}'
      for speed in facts['speeds']
    )
    lines.append(
      f'{facts["queries"]} queries of {facts["asked_with"]}, '
      f'{facts["speeds"][0]["matches"]} matches each, {threads}; median and '
      'quartiles of rounds in turns'
    )
  return '\n'.join(lines)


def _require_own_name(out: pathlib.Path) -> None:
  """Refuses a name whose ids and card are those of other vectors."""
  others = [out.with_suffix(suffix) for suffix in _OTHER_VECTORS]
  if not out.exists():
    others += [out.with_suffix(suffix) for suffix in ('.ids.txt', '.json')]
  if there := [path for path in others if path.exists()]:
    raise InputError(
      f'{out}: {there[0].name} is there, and vectors of one name share '
      f'{out.stem}.ids.txt and {out.stem}.json. Choose another name.'
    )


def _compatible_card(store: EmbeddingStore) -> Card:
  card = store.card
  if not card.compatible_dimension:
    raise InputError(
      f'--compatible: {store.path} has vectors of width {card.dimension} and '
      'no compatible part; wanted those of a wider encoder that was trained '
      'with one. Leave --compatible out to export them whole.'
    )
  return dataclasses.replace(
    card, dimension=card.compatible_dimension, compatible_dimension=0
  )


@contextlib.contextmanager
def _writing(out: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except (OSError, RuntimeError) as error:
    raise InputError(
      f'{out}: cannot be written ({error}). Make room, or name another place.'
    ) from error


def _row(name: str, index: str, exact: str) -> str:
  return f'{name:<25} {index:>26} {exact:>26}'.rstrip()


def _spread(rate: Rate) -> str:
  return f'{rate.median:.1f} ({rate.low:.1f} to {rate.high:.1f})'
