"""Several files of vectors as one list of rows, with ids, labels and a card."""

import bisect
from collections.abc import Callable, Iterator, Sequence
import itertools
import json
import pathlib
from typing import Any

from advbct_jax.convert.ids_and_labels import (
  read_ids,
  read_labels,
  require_equal,
  require_ids,
  require_labels,
)
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
    count: the number of rows N.
  """

  def __init__(self, files: Sequence[VectorFile]):
    self.files = files
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

  def ids(self, given: pathlib.Path | None) -> list[str]:
    """The [N] ids, usable as such.

    Args:
      given: a file of ids; they must be those that the files have, if any.
    """
    own = [file.ids() for file in self.files]
    ids = self._one_each('ids', own, given, read_ids)
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
    """The [N] labels; None where neither the files nor anyone has some."""
    own = [file.labels() for file in self.files]
    labels = self._one_each(
      'labels', own, given, lambda path: read_labels(path, ids)
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
    cards = {file.path: _card_of(file.path) for file in self.files}
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
      card = _card_of(file.path)
      if card is None:
        continue
      found: dict[str, Any] = {
        'dimension': file.dimension,
        'count': file.count,
        'ids_digest': digest_ids(ids[rows]),
      }
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


def _card_of(path: pathlib.Path) -> Card | None:
  """The card beside a file of vectors, where there is one."""
  file = path.with_suffix('.json')
  try:
    text = file.read_text(encoding='utf-8', errors='replace')
    if '"ids_digest"' not in text:
      return None  # A file of somebody's own, which happens to be called so.
    return Card(**json.loads(text))
  except FileNotFoundError:
    return None
  except (OSError, ValueError, TypeError) as error:
    raise InputError(
      f'{file}: cannot be read as the card of {path.name} ({error}). It is '
      'damaged or of another version; fetch or write it again, or take it away '
      'and name the encoder by --encoder.'
    ) from error
