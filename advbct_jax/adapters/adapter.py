"""An adapter, and the folder that it is kept in.

The folder has two files:

    card.json             what it is, and between which encoders it maps
    weights.safetensors   its parameters
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np
from safetensors import SafetensorError
import safetensors.numpy

from advbct_jax.adapters.kinds import ADAPTERS, find_kind
from advbct_jax.adapters.pairs import BACKWARD, FORWARD, join
from advbct_jax.adapters.spaces import Space
from advbct_jax.atomic_files import write_text
from advbct_jax.embeddings.store import UNSAID_COMPUTE_DTYPE
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError, brief, brief_list, brief_reason
from advbct_jax.typed_json import read_json, take_fields

_SIDES = ('source', 'target')


@dataclasses.dataclass(frozen=True)
class AdapterCard:
  """What was fitted, to what.

  Attributes:
    kind: a key of `ADAPTERS`.
    one_space: whether mapped vectors are as like each other as before.
    new: `Card.identity` of the new encoder.
    old: `Card.identity` of the old one.
    images: name, digest of the ids, and count of the images it was fitted to.
    options: the seed and the options of its kind.
    direction: `backward`, if it maps new vectors to old ones, or `forward`, if
      it maps old vectors to new ones.
    side: `Card.identity` of the encoder whose vectors of the same things stand
      beside those that are mapped; None for none.
  """

  kind: str
  one_space: bool
  new: dict[str, Any]
  old: dict[str, Any]
  images: dict[str, Any]
  options: dict[str, Any]
  direction: str = BACKWARD
  side: dict[str, Any] | None = None

  @property
  def source(self) -> dict[str, Any]:
    """`Card.identity` of the encoder whose vectors are mapped."""
    return self.old if self.direction == FORWARD else self.new

  @property
  def target(self) -> dict[str, Any]:
    """`Card.identity` of the encoder whose vectors they are mapped to."""
    return self.new if self.direction == FORWARD else self.old

  def describe(self) -> dict[str, Any]:
    """As `card.json` has it."""
    described = dataclasses.asdict(self)
    # Those from before there were directions or side vectors have none, and
    # keep their digest.
    if self.direction == BACKWARD:
      del described['direction']
    if self.side is None:
      del described['side']
    return described


@dataclasses.dataclass(frozen=True)
class Adapter:
  """A map of one encoder's vectors into another's space.

  Backward, new vectors are mapped into the old space; forward, old vectors into
  the new one.

  >>> import advbct_jax
  >>> vectors = np.random.default_rng(0).normal(size=(20, 3))
  >>> ids = [f'image{number}' for number in range(20)]
  >>> new = advbct_jax.make_store('new', vectors, ids, 'ours', version='2')
  >>> turned = vectors[:, ::-1]
  >>> old = advbct_jax.make_store('old', turned, ids, 'ours', version='1')
  >>> adapter = advbct_jax.fit_adapter('procrustes', new, old)
  >>> np.abs(adapter.apply(np.eye(3))).round(3).tolist()
  [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]

  Attributes:
    card: what it is.
    parameters: arrays by name, as its kind has them.
    source: what the vectors look like that it maps, with the side vectors
      behind them; None where it is from before that was kept.
    target: what those look like that it maps to.
  """

  card: AdapterCard
  parameters: dict[str, np.ndarray]
  source: Space | None = None
  target: Space | None = None

  @property
  def one_space(self) -> bool:
    """Whether mapped vectors are as like each other as before."""
    return self.card.one_space

  @property
  def dimension(self) -> int:
    """The width of mapped vectors.

    That of the source where it is one space, backward; else the target's. An
    index of the new space has no room for more.
    """
    keeps = self.one_space and self.card.direction == BACKWARD
    return (self.card.source if keeps else self.card.target)['dimension']

  @property
  def compatible_dimension(self) -> int:
    """How many of the first components compare with old ones; 0 for all."""
    width = self.card.target['dimension']
    return width if width < self.dimension else 0

  @functools.cached_property
  def digest(self) -> str:
    """A digest of card and parameters."""
    described = json.dumps(self.card.describe(), sort_keys=True)
    digest = hashlib.sha256(described.encode())
    digest.update(safetensors.numpy.save(self.parameters))
    return digest.hexdigest()

  def apply(
    self, vectors: np.ndarray, side_vectors: np.ndarray | None = None
  ) -> np.ndarray:
    """Maps vectors, which are brought to length 1 first.

    Args:
      vectors: [N, D] source embeddings: new ones backward, old ones forward.
      side_vectors: [N, D_side] those of the encoder `card.side`, of the same
        things; None where it was fitted without.

    Returns:
      [N, `dimension`] float32.

    Raises:
      InputError: if the vectors have another width, or if there are side
        vectors where none are wanted, or none where they are.
    """
    joined = self.join(vectors, side_vectors)
    with self._using_parameters():
      mapped = find_kind(self.card.kind).apply(self.parameters, joined)
      return mapped[:, : self.dimension]

  def join(
    self, vectors: np.ndarray, side_vectors: np.ndarray | None = None
  ) -> np.ndarray:
    """What it maps: unit vectors, followed by side vectors of length 1.

    Takes and raises what `apply` does.

    Returns:
      [N, D], or [N, D + D_side].
    """
    require_side(self.card, None if side_vectors is None else 'side vectors')
    source = _unit(self.card.source, vectors)
    if self.card.side is None or side_vectors is None:
      return source
    if len(side_vectors) != len(vectors):
      raise InputError(
        f'adapter: {len(side_vectors)} side vectors beside {len(vectors)} '
        'vectors; wanted: one for each.'
      )
    return join(source, _unit(self.card.side, side_vectors))

  def predict_uncertainty(self, vectors: np.ndarray) -> np.ndarray:
    """Predicts how far off mapped vectors are.

    What is farthest off gains most by being embedded anew.

    Args:
      vectors: [N, D] source embeddings.

    Returns:
      [N] σ.

    Raises:
      InputError: if the kind cannot say, or the vectors have another width.
    """
    predict = find_kind(self.card.kind).predict_uncertainty
    if predict is None:
      able = [name for name in ADAPTERS if ADAPTERS[name].predict_uncertainty]
      raise InputError(
        f'adapter: {self.card.kind} does not say how far off it is; wanted: '
        f'{" or ".join(able)}.'
      )
    with self._using_parameters():
      return predict(self.parameters, self.join(vectors))

  @contextlib.contextmanager
  def _using_parameters(self) -> Iterator[None]:
    """Says of parameters that don't fit each other that they don't."""
    try:
      yield
    except InputError:
      raise
    except (ValueError, TypeError, KeyError, IndexError) as error:
      shapes = [f'{name} {one.shape}' for name, one in self.parameters.items()]
      raise InputError(
        f'adapter: of the kind {self.card.kind}, with the parameters '
        f'{brief_list(shapes)}, which map no vectors ({brief_reason(error)}). '
        'Fit it again.'
      ) from error


def require_side(card: AdapterCard, found: str | None) -> None:
  """Refuses side vectors where none are wanted, and none where they are.

  Args:
    card: of the adapter.
    found: which side vectors there are; None for none.

  Raises:
    InputError: saying which are wanted.
  """
  if card.side is None and found is not None:
    raise InputError(
      f'adapter: there are {found}, and this one ({card.kind}) was fitted '
      'without any; leave them out, or fit one with them.'
    )
  if card.side is not None and found is None:
    raise InputError(
      f'adapter: there are no side vectors, and this one ({card.kind}) was '
      f'fitted with those of {card.side["encoder"]}, of width '
      f'{card.side["dimension"]}. Name those of the same images, by --side on '
      'the command line.'
    )


def save_adapter(adapter: Adapter, folder: pathlib.Path | str) -> None:
  """Writes an adapter; the card appears last.

  >>> import advbct_jax
  >>> vectors = np.random.default_rng(0).normal(size=(20, 3))
  >>> ids = [f'image{number}' for number in range(20)]
  >>> new = advbct_jax.make_store('new', vectors, ids, 'ours', version='2')
  >>> old = advbct_jax.make_store('old', -vectors, ids, 'ours', version='1')
  >>> adapter = advbct_jax.fit_adapter('ridge', new, old)
  >>> advbct_jax.save_adapter(adapter, 'ridge')
  >>> advbct_jax.load_adapter('ridge').digest == adapter.digest
  True

  Args:
    adapter: what to keep.
    folder: where to, made if it is not there.

  Raises:
    InputError: if there is another adapter or something else, or if the folder
      cannot be written.
  """
  folder = pathlib.Path(folder)
  if is_fitted(folder, adapter.card):
    return
  weights = safetensors.numpy.save(
    adapter.parameters
    | {
      f'{side}.{field}': np.asarray(array)
      for side in _SIDES
      if (space := getattr(adapter, side))
      for field, array in dataclasses.asdict(space).items()
    }
  )
  described = adapter.card.describe() | {
    'weights_sha256': hashlib.sha256(weights).hexdigest()
  }
  try:
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f'weights.safetensors.{os.getpid()}.unfinished'
    unfinished.write_bytes(weights)
    os.replace(unfinished, folder / 'weights.safetensors')
    write_text(folder / 'card.json', json.dumps(described, indent=2) + '\n')
  except OSError as error:
    raise InputError(
      f'{folder}: the adapter cannot be written ({error}). Make room, or name '
      'another place.'
    ) from error


def is_fitted(folder: pathlib.Path, card: AdapterCard) -> bool:
  """Whether an adapter is there already, fitted in the same way.

  Args:
    folder: where it would be.
    card: what it would be.

  Raises:
    InputError: if there is another adapter or something else, or if the one
      that is there is damaged.
  """
  if not folder.exists():
    return False
  if not (folder / 'card.json').exists():
    # What a kill has left of an adapter may be written over.
    if folder.is_dir() and all(
      path.name.startswith('weights.safetensors') for path in folder.iterdir()
    ):
      return False
    raise InputError(
      f'{folder}: is there already, and no adapter. Choose another name.'
    )
  here, there = (
    dataclasses.asdict(one) for one in (card, load_adapter(folder).card)
  )
  if differing := [name for name in here if here[name] != there[name]]:
    raise InputError(
      f'{folder}: another adapter is there already:\n  '
      + '\n  '.join(
        f'{name}: {there[name]} there, {here[name]} wanted'
        for name in differing
      )
      + '\nChoose another name, or remove it.'
    )
  return True


def load_adapter(folder: pathlib.Path | str) -> Adapter:
  """Reads an adapter.

  >>> import advbct_jax
  >>> vectors = np.random.default_rng(0).normal(size=(20, 3))
  >>> ids = [f'image{number}' for number in range(20)]
  >>> new = advbct_jax.make_store('new', vectors, ids, 'ours', version='2')
  >>> old = advbct_jax.make_store('old', -vectors, ids, 'ours', version='1')
  >>> adapter = advbct_jax.fit_adapter('ridge', new, old)
  >>> advbct_jax.save_adapter(adapter, 'ridge')
  >>> advbct_jax.load_adapter('ridge').card.kind
  'ridge'

  Args:
    folder: from `save_adapter`.

  Raises:
    InputError: if there is none, or it is damaged.
  """
  folder = pathlib.Path(folder)
  try:
    described = read_json(folder / 'card.json')
    sha256 = described.pop('weights_sha256')
    card = take_fields(AdapterCard, described)
    if card.direction not in (BACKWARD, FORWARD):
      raise ValueError(f'direction is {brief(card.direction)}')
    sides = [] if card.side is None else [card.side]
    for identity in (card.new, card.old, *sides):
      identity.setdefault('compute_dtype', UNSAID_COMPUTE_DTYPE)
      _require_width(identity['dimension'])
    weights = (folder / 'weights.safetensors').read_bytes()
    arrays = safetensors.numpy.load(weights)
    spaces = {
      side: Space(**fields)
      for side in _SIDES
      if (fields := _pop_fields(arrays, f'{side}.'))
    }
  except OSError as error:
    raise InputError(
      f'{folder}: no adapter here ({error}). Wanted: the folder that advbct '
      'adapters fit has made.'
    ) from error
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise InputError(
      f'{folder / "card.json"}: not the card of an adapter '
      f'({brief(error)}). Fit the adapter again, under another name.'
    ) from error
  except SafetensorError as error:
    raise InputError(
      f'{folder / "weights.safetensors"}: damaged ({brief_reason(error)}). '
      'Remove the adapter and fit it again.'
    ) from error
  found = hashlib.sha256(weights).hexdigest()
  if found != sha256 or card.kind not in ADAPTERS:
    raise InputError(
      f'{folder}: card.json speaks of an adapter of the kind '
      f'{brief(card.kind)} and weights of SHA-256 {brief(sha256)}, but '
      f'weights.safetensors has {found}, and the kinds are '
      f'{", ".join(ADAPTERS)}. One of the two was changed; '
      'remove the adapter and fit it again.'
    )
  return Adapter(card, arrays, **spaces)


def _unit(encoder: dict[str, Any], vectors: np.ndarray) -> np.ndarray:
  """An encoder's [N, D] vectors at length 1."""
  if vectors.shape[1] != encoder['dimension']:
    raise InputError(
      f'adapter: vectors of width {vectors.shape[1]}; wanted: vectors of '
      f'{encoder["encoder"]}, of width {encoder["dimension"]}.'
    )
  return unit_rows(np.asarray(vectors, np.float32))


def _require_width(width: Any) -> None:
  if type(width) is not int or width < 1:
    raise ValueError(f'dimension is {brief(width)}, wanted 1 or more')


def _pop_fields(
  arrays: dict[str, np.ndarray], prefix: str
) -> dict[str, np.ndarray]:
  """Takes out the arrays whose names begin so, by the rest of their names."""
  names = [name for name in arrays if name.startswith(prefix)]
  return {name.removeprefix(prefix): arrays.pop(name) for name in names}
