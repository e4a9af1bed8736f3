"""Vectors that anyone made become a store, and a store becomes files.

The encoder that made the vectors need not be known by more than its name: a
store is all that training and evaluation ask of an old one.
"""

import collections
from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import os
import pathlib
import shutil

import numpy as np
import tqdm

from advbct_jax.checksums import digest_file
from advbct_jax.convert.ids_and_labels import spell_classes
from advbct_jax.convert.store_filling import (
  INPUTS,
  claim_folder,
  fill_store,
  writing_store,
)
from advbct_jax.convert.vector_columns import (
  VectorColumns,
)
from advbct_jax.convert.vector_files import open_vectors
from advbct_jax.convert.vector_lengths import Lengths
from advbct_jax.convert.vector_rows import VectorRows
from advbct_jax.convert.vector_writing import require_suffix, write_vectors
from advbct_jax.embeddings.store import (
  EmbeddingStore,
  create_store,
  open_store,
  write_card,
)
from advbct_jax.errors import InputError
from advbct_jax.line_files import write_lines
from advbct_jax.locks import hold_name

# Of files, or of spellings, that are named one by one.
_MOST_LINES = 20


@dataclasses.dataclass(frozen=True)
class Filled:
  """A store made from vectors, and what a user may want to know of them.

  Attributes:
    store: it is complete.
    lengths: of its vectors; how many are all zero, too.
    labelled: how many images have a class.
    classes: how many classes they have.
    missing: how many images have none, by how that was spelt.
    respelt: of spellings of classes that had another, which class they are.
    inexact: files that have approximations of the vectors alone.
    unscaled: files of int8 vectors without a scale.
    spans: each file's first and last id, where there are several.
  """

  store: EmbeddingStore
  lengths: Lengths
  labelled: int
  classes: int
  missing: dict[str, int]
  respelt: dict[str, str]
  inexact: list[pathlib.Path]
  unscaled: list[pathlib.Path]
  spans: list[tuple[pathlib.Path, str, str]]


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
  columns: VectorColumns | None = None,
  metric: str | None = None,
  keep_order: bool = False,
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
    columns: the names of columns and arrays, where they aren't the usual ones.
    metric: what the vectors are compared by where they come from; None takes
      what a FAISS index says, or cosine.
    keep_order: whether files may be in another order than the numbers in their
      names, though `ids` or `labels` is one list for all.

  Returns:
    The complete store, with what was counted on the way.

  Raises:
    InputError: if there is something at `path`, or somebody else's folder at
      `PATH.unfinished`; if another process fills it; if vectors, ids or labels
      are damaged, missing, not finite, or don't belong together; if cosine
      would rank the vectors otherwise than their metric does; or if the store
      cannot be written.
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
  columns = columns or VectorColumns()
  rows = VectorRows([open_vectors(file, columns) for file in vectors], columns)
  if not keep_order:
    rows.require_number_order(ids, labels)
  names = rows.ids(ids)
  spelt = rows.labels(labels, names)
  rows.require_own_cards(names, None if labels else spelt)
  classes, respelt = (None, {}) if spelt is None else spell_classes(spelt)
  card = rows.card(names, classes, given, path.name)
  unfinished = path.with_name(f'{path.name}.unfinished')
  with writing_store(path), hold_name(path, 'fills the store'):
    claim_folder(unfinished, rows, card)
    try:
      store = create_store(unfinished, card, names, classes)
      with store.filling():
        lengths = fill_store(store, rows, names, metric)
        card = store.finish().card
    except InputError:
      shutil.rmtree(unfinished, ignore_errors=True)
      raise
    os.replace(unfinished, path)
    # Last, for without it a folder is not known as an unfinished store.
    (path / INPUTS).unlink()
  counts = collections.Counter(classes)
  return Filled(
    store=EmbeddingStore(path, card),
    lengths=lengths,
    labelled=counts.total() - counts[''],
    classes=len(counts.keys() - {''}),
    missing=collections.Counter(
      label for label in spelt or () if not respelt.get(label, label)
    ),
    respelt={here: there for here, there in respelt.items() if there},
    inexact=[file.path for file in rows.files if not file.exact],
    unscaled=[
      file.path for file in rows.files if file.integers and not file.scaled
    ],
    spans=rows.spans(names),
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
    with hold_name(out, 'writes the store to files'):
      shape = store.card.count, store.card.dimension
      write_vectors(
        unfinished[out], out.suffix, shape, _chunks(store), ids, labels
      )
      for what, lines in texts.items():
        write_lines(unfinished[beside[what]], lines)
      write_card(
        unfinished[out.with_suffix('.json')],
        dataclasses.replace(
          store.card, file_sha256=digest_file(unfinished[out])
        ),
      )
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


def _chunks(store: EmbeddingStore) -> Iterator[np.ndarray]:
  with tqdm.tqdm(
    desc='writing', total=store.card.count, unit=' vectors', unit_scale=True
  ) as progress:
    for chunk in store.chunks():
      yield chunk
      progress.update(len(chunk))


def describe_filled(filled: Filled) -> str:
  """What a user may want to know of a store made from vectors, as text."""
  return '\n'.join(_describe(filled))


def _describe(filled: Filled) -> Iterator[str]:
  """What was found, in lines."""
  card = filled.store.card
  yield (
    f'{filled.store.path}: {card.count} vectors of width {card.dimension} of '
    f'{card.encoder} ({card.weights}), images {card.images}'
  )
  for path, first, last in filled.spans[:_MOST_LINES]:
    yield f'{path}: {first} … {last}'
  if (more := len(filled.spans) - _MOST_LINES) > 0:
    yield f'and {more} files more'
  if filled.store.card.labels_digest is None:
    yield 'no labels'
  else:
    yield f'{filled.labelled} images have one of {filled.classes} classes'
  if filled.missing:
    spellings = ', '.join(
      f'{count} say {label!r}' if label else f'{count} say nothing'
      for label, count in list(filled.missing.items())[:_MOST_LINES]
    )
    yield f'{sum(filled.missing.values())} images have none ({spellings})'
  if filled.respelt:
    here, there = next(iter(filled.respelt.items()))
    yield (
      f'{len(filled.respelt)} spellings of classes were brought to another, '
      f'such as {here!r} to {there!r}'
    )
  lengths = filled.lengths
  if lengths.zeros:
    yield (
      f'{lengths.zeros} vectors are all zero: they have no direction, so '
      'nothing is like them'
    )
  compared = 'they are compared by cosine'
  if lengths.differ:
    compared += (
      f', whatever their lengths ({lengths.shortest:.4g} to '
      f'{lengths.longest:.4g})'
    )
  yield compared
  for path in filled.inexact:
    yield (
      f'{path}: the index does not keep the vectors as they were; these are '
      'its approximations'
    )
  for path in filled.unscaled:
    yield (
      f'{path}: int8 without a scale, taken as they are. One scale for all '
      'changes no cosine; name one for each component by --scale'
    )
