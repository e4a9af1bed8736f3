"""Vectors that anyone made become a store, and a store becomes files.

The encoder that made the vectors need not be known by more than its name: a
store is all that training and evaluation ask of an old one.
"""

import collections
from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import shutil

import numpy as np
import tqdm

from advbct_jax.atomic_files import write_text
from advbct_jax.convert.vector_files import (
  open_vectors,
  read_rows,
  require_suffix,
  write_vectors,
)
from advbct_jax.convert.vector_rows import VectorRows
from advbct_jax.embeddings.store import (
  Card,
  EmbeddingStore,
  create_store,
  open_store,
)
from advbct_jax.errors import InputError

# Says in an unfinished store what it is made from.
_INPUTS = 'inputs.json'


@dataclasses.dataclass(frozen=True)
class Filled:
  """A store made from vectors, and what a user may want to know of them.

  Attributes:
    store: it is complete.
    zeros: how many of its vectors are all zero.
    labelled: how many images have a class.
    classes: how many classes they have.
    inexact: files that have approximations of the vectors alone.
  """

  store: EmbeddingStore
  zeros: int
  labelled: int
  classes: int
  inexact: list[pathlib.Path]


def vectors_to_store(
  vectors: Sequence[pathlib.Path],
  path: pathlib.Path,
  *,
  encoder: str | None = None,
  version: str | None = None,
  images: str | None = None,
  preprocessing: str | None = None,
  ids: pathlib.Path | None = None,
  labels: pathlib.Path | None = None,
) -> Filled:
  """Makes a store from files of vectors, in blocks.

  It is filled as `PATH.unfinished` and renamed when it is whole. What a killed
  call has left there is gone on with if it is of the same files, and replaced
  if it is of others; where the vectors themselves are refused it is removed.

  Args:
    vectors: files, one after the other.
    path: the store's folder.
    encoder: its name; None takes that of the card beside the vectors.
    version: of its weights; None takes the card's, or `unversioned`.
    images: the name of the image set; None takes the card's, or the folder's.
    preprocessing: of an image; None takes the card's, or `unknown`.
    ids: a file of image ids, where the vectors have none with them.
    labels: a file of the classes under which the encoder was trained on the
      images, where the vectors have none.

  Returns:
    The complete store, with what was counted on the way.

  Raises:
    InputError: if there is something at `path`, or somebody else's folder at
      `PATH.unfinished`; if vectors, ids or labels are damaged, missing, not
      finite, or don't belong together; or if the store cannot be written.
  """
  if path.exists():
    raise InputError(
      f'{path}: is there already, and nothing is ever written over. Choose '
      'another name, or remove it.'
    )
  given = {
    'encoder': encoder,
    'weights': version,
    'images': images,
    'preprocessing': preprocessing,
  }
  unfinished = path.with_name(f'{path.name}.unfinished')
  rows = VectorRows([open_vectors(file) for file in vectors])
  names = rows.ids(ids)
  classes = rows.labels(labels, names)
  card = rows.card(names, classes, given, path.name)
  rows.require_own_cards(names, None if labels else classes)
  with _writing(path):
    _claim(unfinished, rows, card)
    store = create_store(unfinished, card, names, classes)
    try:
      zeros = _fill(store, rows, names)
    except InputError:
      shutil.rmtree(unfinished, ignore_errors=True)
      raise
    card = store.finish().card
    os.replace(unfinished, path)
    # Last, for without it a folder is not known as an unfinished store.
    (path / _INPUTS).unlink()
  counts = collections.Counter(classes)
  return Filled(
    store=EmbeddingStore(path, card),
    zeros=zeros,
    labelled=counts.total() - counts[''],
    classes=len(counts.keys() - {''}),
    inexact=[file.path for file in rows.files if not file.exact],
  )


def store_to_files(path: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
  """Writes the vectors, ids, labels and card of a store.

  Args:
    path: a complete store.
    out: NAME.npy, which has NAME.ids.txt and NAME.labels.txt beside it,
      NAME.npz or NAME.parquet, which have all in them. NAME.json is the card.

  Returns:
    The files, `out` last; none has its name before all are whole.

  Raises:
    InputError: if the store is incomplete or damaged, if the suffix is unknown,
      or if one of the files is there already or cannot be written.
  """
  require_suffix(out)
  store = open_store(path)
  ids, labels = store.ids(), store.labels()
  texts = {}
  if out.suffix == '.npy':
    texts = {'ids': ids} | ({} if labels is None else {'labels': labels})
  beside = {what: out.with_suffix(f'.{what}.txt') for what in texts}
  files = [*beside.values(), out.with_suffix('.json'), out]
  if there := [file for file in files if file.exists()]:
    raise InputError(
      f'{there[0]}: is there already, and nothing is ever written over. Choose '
      'another name, or remove it.'
    )
  unfinished = {
    file: file.with_name(f'{file.name}.unfinished') for file in files
  }
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    shape = store.card.count, store.card.dimension
    write_vectors(
      unfinished[out], out.suffix, shape, _chunks(store), ids, labels
    )
    for what, lines in texts.items():
      with unfinished[beside[what]].open('w', encoding='utf-8') as text:
        text.writelines(f'{line}\n' for line in lines)
    described = json.dumps(dataclasses.asdict(store.card), indent=2) + '\n'
    unfinished[out.with_suffix('.json')].write_text(described)
    for file in files:
      os.replace(unfinished[file], file)
  except OSError as error:
    raise InputError(
      f'{out}: cannot be written ({error}). Make room, or name another place.'
    ) from error
  finally:
    for name in unfinished.values():
      with contextlib.suppress(OSError):  # Its folder may be no folder.
        name.unlink()
  return files


def _claim(unfinished: pathlib.Path, rows: VectorRows, card: Card) -> None:
  """Makes an unfinished store's folder, unless one has the same inputs."""
  stats = [(file.path.resolve(), file.path.stat()) for file in rows.files]
  inputs = {
    'vectors': [
      {'path': str(path), 'size': stat.st_size, 'mtime_ns': stat.st_mtime_ns}
      for path, stat in stats
    ],
    'card': dataclasses.asdict(card),
  }
  described = json.dumps(inputs, indent=2) + '\n'
  path = unfinished / _INPUTS
  if unfinished.exists():
    if not _is_ours(unfinished):
      raise InputError(
        f'{unfinished}: is there already, and no store that a killed command '
        'has left. The new store is filled under this name; remove it, or '
        'choose another name for the store.'
      )
    if path.exists() and path.read_text() == described:
      return
    shutil.rmtree(unfinished)
  unfinished.mkdir(parents=True)
  write_text(path, described)


def _is_ours(unfinished: pathlib.Path) -> bool:
  """Whether a folder says what it is made from, or was about to."""
  if not unfinished.is_dir():
    return False
  names = [file.name for file in unfinished.iterdir()]
  return _INPUTS in names or all(name.startswith(_INPUTS) for name in names)


def _fill(store: EmbeddingStore, rows: VectorRows, ids: Sequence[str]) -> int:
  """Writes the missing chunks; returns how many vectors are all zero."""
  first = min(store.missing_chunks(), default=store.chunk_count)
  chunks = itertools.chain(
    map(store.read_chunk, range(first)),
    read_rows(rows.files, store.rows_of(first).start, store.card.chunk_rows),
  )
  zeros = 0
  with tqdm.tqdm(
    desc='storing', total=store.card.count, unit=' vectors', unit_scale=True
  ) as progress:
    for number, chunk in enumerate(chunks):
      finite = np.isfinite(chunk).all(axis=1)
      if not finite.all():
        row = store.rows_of(number).start + int(finite.argmin())
        raise InputError(
          f'{rows.where(row)}: the vector of image {ids[row]!r} is not finite '
          'as float32 (NaN or infinite). Its encoder has diverged, or the file '
          'is damaged; mend the vector or take the image out.'
        )
      zeros += len(chunk) - int(chunk.any(axis=1).sum())
      if number >= first:
        store.write_chunk(number, chunk)
      progress.update(len(chunk))
  return zeros


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
  """Says why a store cannot be written; what there is of it stays."""
  try:
    yield
  except InputError:
    raise
  except (OSError, ValueError) as error:  # Orbax has both for a full disk.
    raise InputError(
      f'{path}: the store cannot be written ({error}). Make room and run the '
      'same command again, which goes on where it stopped, or name another '
      'place.'
    ) from error


def _chunks(store: EmbeddingStore) -> Iterator[np.ndarray]:
  with tqdm.tqdm(
    desc='writing', total=store.card.count, unit=' vectors', unit_scale=True
  ) as progress:
    for chunk in store.chunks():
      yield chunk
      progress.update(len(chunk))


def describe_filled(filled: Filled) -> str:
  """What a user may want to know of a store made from vectors, as text."""
  card = filled.store.card
  lines = [
    f'{filled.store.path}: {card.count} vectors of width {card.dimension} of '
    f'{card.encoder} ({card.weights}), images {card.images}'
  ]
  if card.labels_digest is None:
    lines.append('no labels')
  else:
    lines.append(
      f'{filled.labelled} images have one of {filled.classes} classes'
    )
  if filled.zeros:
    lines.append(
      f'{filled.zeros} vectors are all zero: they have no direction, so '
      'nothing is like them'
    )
  lines += [
    f'{path}: the index does not keep the vectors as they were; these are '
    'its approximations'
    for path in filled.inexact
  ]
  return '\n'.join(lines)
