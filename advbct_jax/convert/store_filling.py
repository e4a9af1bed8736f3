"""An unfinished store beside its final name, filled from files of vectors."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import itertools
import json
import pathlib
import shutil

import numpy as np
import tqdm

from advbct_jax.atomic_files import write_text
from advbct_jax.convert.vector_files import read_rows
from advbct_jax.convert.vector_lengths import COSINE, Lengths
from advbct_jax.convert.vector_rows import VectorRows
from advbct_jax.embeddings.store import Card, EmbeddingStore
from advbct_jax.errors import InputError, brief_reason

# Says in an unfinished store what it is made from.
INPUTS = 'inputs.json'


def claim_folder(
  unfinished: pathlib.Path, rows: VectorRows, card: Card
) -> None:
  """Makes an unfinished store's folder, unless one has the same inputs.

  Args:
    unfinished: the folder.
    rows: that the store is filled with.
    card: of the store.

  Raises:
    InputError: if somebody else has a folder or file of this name.
  """
  stats = [(file.path.resolve(), file.path.stat()) for file in rows.files]
  inputs = {
    'vectors': [
      {'path': str(path), 'size': stat.st_size, 'mtime_ns': stat.st_mtime_ns}
      for path, stat in stats
    ],
    'columns': dataclasses.asdict(rows.columns),
    'card': dataclasses.asdict(card),
  }
  described = json.dumps(inputs, indent=2) + '\n'
  path = unfinished / INPUTS
  if unfinished.exists():
    if not _is_ours(unfinished):
      raise InputError(
        f'{unfinished}: is there already, and no store that a killed command '
        'has left. The new store is filled under this name; remove it, or '
        'choose another name for the store.'
      )
    if path.exists() and path.read_text(encoding='utf-8') == described:
      return
    shutil.rmtree(unfinished)
  unfinished.mkdir(parents=True)
  write_text(path, described)


def _is_ours(unfinished: pathlib.Path) -> bool:
  """Whether a folder says what it is made from, or was about to."""
  if not unfinished.is_dir():
    return False
  names = [file.name for file in unfinished.iterdir()]
  return INPUTS in names or all(name.startswith(INPUTS) for name in names)


def fill_store(
  store: EmbeddingStore,
  rows: VectorRows,
  ids: Sequence[str],
  metric: str | None,
) -> Lengths:
  """Writes the missing chunks.

  Args:
    store: incomplete.
    rows: N vectors.
    ids: [N].
    metric: what they are compared by where they come from; None takes what the
      files say, or cosine.

  Returns:
    What their lengths are.

  Raises:
    InputError: if a vector is not finite, if the lengths don't allow to compare
      by cosine what was compared by the metric, or if a file is damaged.
  """
  first = min(store.missing_chunks(), default=store.chunk_count)
  chunks = itertools.chain(
    map(store.read_chunk, range(first)),
    read_rows(rows.files, store.rows_of(first).start, store.card.chunk_rows),
  )
  lengths = Lengths()
  with tqdm.tqdm(
    desc='storing', total=store.card.count, unit=' vectors', unit_scale=True
  ) as progress:
    for number, chunk in enumerate(chunks):
      start = store.rows_of(number).start
      _require_finite(chunk, start, rows, ids)
      lengths.add(chunk)
      for file in rows.files:
        lengths.require_cosine(
          metric or file.metric or COSINE, file.exact, file.path
        )
      if number >= first:
        store.write_chunk(number, chunk)
      progress.update(len(chunk))
  return lengths


def _require_finite(
  chunk: np.ndarray, start: int, rows: VectorRows, ids: Sequence[str]
) -> None:
  finite = np.isfinite(chunk).all(axis=1)
  if not finite.all():
    row = start + int(finite.argmin())
    raise InputError(
      f'{rows.where(row)}: the vector of image {ids[row]!r} is not finite '
      'as float32 (NaN or infinite). Its encoder has diverged, or the file '
      'is damaged; mend the vector or take the image out.'
    )


@contextlib.contextmanager
def writing_store(path: pathlib.Path) -> Iterator[None]:
  """Says why a store cannot be written; what there is of it stays.

  Raises:
    InputError: for anything that writing may raise.
  """
  try:
    yield
  except InputError:
    raise
  except (OSError, ValueError) as error:  # Orbax has both for a full disk.
    raise InputError(
      f'{path}: the store cannot be written ({brief_reason(error)}). Make room '
      'and run the same command again, which goes on where it stopped, or name '
      'another place.'
    ) from error
