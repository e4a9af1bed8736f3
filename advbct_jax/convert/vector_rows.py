"""Several files of vectors as one list of rows, with ids, labels and a card."""

import bisect
from collections.abc import Callable, Iterator, Sequence
import itertools
import pathlib
import re
from typing import Any

from advbct_jax.checksums import digest_file
from advbct_jax.convert.cards_beside import card_beside
from advbct_jax.convert.ids_and_labels import (
  read_ids,
  read_labels,
  require_equal,
  require_ids,
  require_labels,
)
from advbct_jax.convert.vector_columns import VectorColumns
from advbct_jax.convert.vector_files import VectorFile
from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.store import DEFAULT_CHUNK_ROWS, Card
from advbct_jax.errors import InputError

# What the cards beside some vectors say of them, all the same.
_DESCRIBED = (
  'encoder',
  'weights',
  'preprocessing',
  'cropped',
  'upright',
  'compatible_dimension',
)
# Marks the weights of an encoder whose vectors were only kept roughly.
_APPROXIMATED = ' (approximated)'
# A chunk is in memory a few times while it is written: 64 MiB at most.
_CHUNK_VALUES = 2**24


class VectorRows:
  """The rows of several files, counted through.

  Attributes:
    files: of one width.
    columns: their names, and those of .csv files of ids or labels, where they
      aren't the usual ones.
    count: the number of rows N.
  """

  def __init__(
    self, files: Sequence[VectorFile], columns: VectorColumns | None = None
  ):
    self.files = files
    self.columns = columns or VectorColumns()
    first = files[0]
    for file in files:
      if file.dimension != first.dimension:
        raise InputError(
          f'{file.path}: found vectors of width {file.dimension}, but those of '
          f'{first.path} have {first.dimension}. A store has vectors of one '
          'encoder; make one of each.'
        )
    *starts, self.count = itertools.accumulate(
      (file.count for file in files), initial=0
    )
    self._starts = starts

  def where(self, row: int) -> str:
    """The file of a row, and which row of it it is."""
    number = bisect.bisect_right(self._starts, row) - 1
    return f'{self.files[number].path}, row {row - self._starts[number]}'

  def require_number_order(
    self, ids: pathlib.Path | None, labels: pathlib.Path | None
  ) -> None:
    """Refuses numbered files in the order of the shell: 0, 1, 10, 11, 2.

    Their rows would get each other's ids. Where the files have ids of their
    own, or labels are told by id, any order will do.

    Args:
      ids: a file of ids for all of them, where there is one.
      labels: a file of labels for all of them, where there is one.

    Raises:
      InputError: if names of files that differ in numbers alone are not in the
        order of these numbers.
    """
    last: dict[str, tuple[list[int], pathlib.Path]] = {}
    for file in self.files:
      name = str(file.path)
      numbers = [int(digits) for digits in re.findall(r'\d+', name)]
      family = re.sub(r'\d+', '0', name)
      before, path = last.get(family, (numbers, file.path))
      if numbers < before and (one := self._one_list(ids, labels)):
        raise InputError(
          f'{file.path}: its number is lower, but it comes after {path.name}, '
          f'as the shell sorts names; and {one.name} is one list for all '
          'files, so that vectors may get the ids or labels of others. Give '
          'the files in the order of their numbers ($(ls -v …)), or say '
          '--keep_order if the list is in this order.'
        )
      last[family] = numbers, file.path

  def _one_list(
    self, ids: pathlib.Path | None, labels: pathlib.Path | None
  ) -> pathlib.Path | None:
    """A file that tells rows of several files apart by their order alone."""
    if ids and any(file.ids() is None for file in self.files):
      return ids
    by_order = labels and labels.suffix != '.csv'
    if by_order and any(file.labels() is None for file in self.files):
      return labels
    return None

  def spans(self, ids: Sequence[str]) -> list[tuple[pathlib.Path, str, str]]:
    """Each file's first and last id; nothing of a single file."""
    if len(self.files) == 1:
      return []
    return [
      (file.path, ids[rows.start], ids[rows.stop - 1])
      for file, rows in self._slices()
    ]

  def ids(self, given: pathlib.Path | None) -> list[str]:
    """The [N] ids, usable as such.

    Args:
      given: a file of ids; they must be those that the files have, if any.
    """
    own = [file.ids() for file in self.files]
    column = self.columns.id or 'id'
    ids = self._one_each('ids', own, given, lambda path: read_ids(path, column))
    if ids is None:
      raise InputError(
        f'{self.files[own.index(None)].path}: no ids with it. Every vector '
        'needs the id of its image: name a file of them by --ids (.txt with '
        'one a line, .npy, or .csv with a column id), or lay one beside the '
        'vectors, called NAME.ids.txt.'
      )
    require_ids(ids, self.where)
    return ids

  def labels(
    self, given: pathlib.Path | None, ids: Sequence[str]
  ) -> list[str] | None:
    """The [N] labels as they are spelt; None where nobody has some."""
    own = [file.labels() for file in self.files]
    columns = self.columns.id or 'id', self.columns.label or 'label'
    labels = self._one_each(
      'labels', own, given, lambda path: read_labels(path, ids, *columns)
    )
    if labels is None:
      if own.count(None) < len(own):
        raise InputError(
          f'{self.files[own.index(None)].path}: no labels with it, but with '
          'other files. Name a file of all labels by --labels; an image that '
          'the encoder had no class for has an empty one.'
        )
      return None
    require_labels(labels, self.where)
    return labels

  def card(
    self,
    ids: Sequence[str],
    labels: Sequence[str] | None,
    given: dict[str, str | None],
    name: str,
  ) -> Card:
    """The identity card of the store of these rows.

    Args:
      ids: [N].
      labels: [N], or None without.
      given: what a user says; None where the cards of the files may speak.
      name: of the images, where nobody says it or each file another.
    """
    described: dict[str, Any] = {
      'weights': 'unversioned',
      'preprocessing': 'unknown',
      'images': name,
      'cropped': None,
      'upright': False,
      'compatible_dimension': 0,
    }
    told = {key: value for key, value in given.items() if value is not None}
    cards = {file.path: card_beside(file.path) for file in self.files}
    first = next(filter(None, cards.values()), None)
    for path, card in cards.items():
      for field in _DESCRIBED:
        if card is None or first is None or field in told:
          continue
        here, there = getattr(card, field), getattr(first, field)
        if here != there:
          raise InputError(
            f'{path.with_suffix(".json")}: found {field} {here!r}, but the '
            f'vectors before have {there!r}. A store has vectors of one '
            'encoder; make one of each.'
          )
        described[field] = here
    # Training images, an index and queries may well be one store.
    if len(images := {card.images for card in cards.values() if card}) == 1:
      described['images'] = images.pop()
    described |= told
    if not described.get('encoder'):
      raise InputError(
        f'{self.files[0].path}: nobody says which encoder made the vectors. '
        'Name it by --encoder, and its version by --version: vectors of '
        'different encoders must not be mixed up.'
      )
    if not all(file.exact for file in self.files):
      exact = described['weights'].removesuffix(_APPROXIMATED)
      described['weights'] = exact + _APPROXIMATED
    dimension = self.files[0].dimension
    return Card(
      **described,
      dimension=dimension,
      ids_digest=digest_ids(ids),
      count=self.count,
      labels_digest=None if labels is None else digest_ids(labels),
      chunk_rows=max(min(DEFAULT_CHUNK_ROWS, _CHUNK_VALUES // dimension), 1),
    )

  def require_own_cards(
    self, ids: Sequence[str], labels: Sequence[str] | None
  ) -> None:
    """Refuses files that are not what the cards beside them speak of.

    Args:
      ids: [N].
      labels: [N], or None where those of the cards don't matter.
    """
    for file, rows in self._slices():
      card = card_beside(file.path)
      if card is None:
        continue
      found: dict[str, Any] = {
        'dimension': file.dimension,
        'count': file.count,
        'ids_digest': digest_ids(ids[rows]),
      }
      if card.file_sha256 is not None:
        found['file_sha256'] = digest_file(file.path)
      if labels is not None and card.labels_digest is not None:
        found['labels_digest'] = digest_ids(labels[rows])
      for field, value in found.items():
        if value != getattr(card, field):
          raise InputError(
            f'{file.path}: found {field} {value}, but the card '
            f'{file.path.with_suffix(".json")} says {getattr(card, field)}. '
            'Vectors, ids or labels were changed or put into another order '
            'since; take them from where they come from again, or take the '
            'card away.'
          )

  def _slices(self) -> Iterator[tuple[VectorFile, slice]]:
    for file, start in zip(self.files, self._starts, strict=True):
      yield file, slice(start, start + file.count)

  def _one_each(
    self,
    what: str,
    own: Sequence[list[str] | None],
    path: pathlib.Path | None,
    read: Callable[[pathlib.Path], list[str]],
  ) -> list[str] | None:
    """A text for each row, of a given file or else of all files' own."""
    for file, texts in zip(self.files, own, strict=True):
      if texts is not None:
        _require_count(what, len(texts), file.count, file.path)
    if path is not None:
      given = read(path)
      _require_count(what, len(given), self.count, path)
      for (_, rows), texts in zip(self._slices(), own, strict=True):
        if texts is not None:
          require_equal(what, given, rows, texts, path, self.where)
      return given
    known = [texts for texts in own if texts is not None]
    if len(known) < len(own):
      return None
    return known[0] if len(known) == 1 else list(itertools.chain(*known))


def _require_count(
  what: str, found: int, wanted: int, path: pathlib.Path
) -> None:
  if found != wanted:
    raise InputError(
      f'{path}: found {found} {what} for {wanted} vectors; wanted one for '
      'each, in the same order.'
    )
