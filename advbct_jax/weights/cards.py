"""The card beside a file of weights: what they are, and what they expect."""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
from typing import Any

from advbct_jax.atomic_files import write_text
from advbct_jax.checksums import digest_file
from advbct_jax.errors import InputError, brief, brief_reason
from advbct_jax.typed_json import read_json
from advbct_jax.weights.hub import card_path

HEAD_INPUT = (
  'no image: the encoder named by features_of makes [features] numbers of it, '
  'of whatever length, which the head brings to length √features itself'
)
METRIC = 'cosine: scale embeddings to unit length, then take inner products'

# What cards of encoders of images leave out.
_OF_IMAGES: Mapping[str, Any] = {'features': 0, 'features_of': ''}

# What cards of before have not, as it was then.
_YOUNG_FIELDS: Mapping[str, Any] = {'resampling': 'bilinear'}

# What a card's JSON has in a field of some type.
_JSON_KINDS: Mapping[Any, str] = {
  str: 'a text',
  int: 'a whole number',
  float: 'a number',
  tuple[float, ...]: 'a list of numbers',
}


def describe_resize(resampling: str) -> str:
  """Says in words how an image gets its size.

  Args:
    resampling: a key of `RESAMPLINGS`.
  """
  return (
    'the whole image is squashed to image_size × image_size, whatever its '
    f"shape, by PIL's antialiased {resampling} filter on 8-bit RGB "
    "(torchvision's Resize((s, s)) on a PIL image does the same). OpenCV, a "
    'Resize of tensors, a JPEG decoder other than PIL, or a resized centre '
    'crop change the pixels and so the embeddings a little, crops much'
  )


@dataclasses.dataclass(frozen=True)
class WeightsCard:
  """What belongs to a file of weights, so that it can be used right.

  Attributes:
    file: the name of the file.
    architecture: a key of `RESNETS`, `VITS`, `EFFICIENTNET_LITES` or
      `FEATURES`.
    width: factor on its channel counts.
    stem: of a ResNet.
    pooling: how a map of features becomes one vector.
    head: how that becomes an embedding; see `Encoder`.
    dimension: the width D of an embedding.
    compatible_dimension: how many of the first components can be compared with
      the vectors of the encoder before; 0 for all.
    layout: whose names the weights have; a key of `LAYOUTS`.
    image_size: side in pixels that images are squashed to; 0 for a head.
    weights: the digest of the encoder, as in the cards of embedding stores.
    sha256: of the file.
    mean: [3] is subtracted from pixels of 0 to 1; [] for a head.
    standard_deviation: [3] they are then divided by; [] for a head.
    training: the method that the encoder was trained with, or what it was
      converted from.
    colour_order: of the pixels.
    resampling: by what filter images are resized, a key of `RESAMPLINGS`.
    resize: how an image gets its size, in words.
    metric: how embeddings are compared.
    features: the width E of the stored features that a head takes, 0 for an
      encoder of images, whose cards don't speak of it.
    features_of: the encoder whose vectors these are; '' for an encoder of
      images.
  """

  file: str
  architecture: str
  width: float
  stem: str
  pooling: str
  head: str
  dimension: int
  compatible_dimension: int
  layout: str
  image_size: int
  weights: str
  sha256: str
  mean: tuple[float, ...]
  standard_deviation: tuple[float, ...]
  training: str
  colour_order: str = 'RGB'
  resampling: str = 'bilinear'
  resize: str = describe_resize('bilinear')
  metric: str = METRIC
  features: int = 0
  features_of: str = ''


def read_card(path: pathlib.Path) -> WeightsCard | None:
  """Reads the card beside a file of weights.

  Args:
    path: of the weights.

  Returns:
    The card; None if there is none.

  Raises:
    InputError: if it is damaged, or says what cannot be.
  """
  beside = card_path(path)
  if not beside.exists():
    return None
  try:
    found = read_json(beside)
  except (OSError, ValueError) as error:
    raise InputError(
      f'{beside}: cannot read the card of {path.name} ({brief_reason(error)}). '
      'Fetch both again, or move this file away to use the weights '
      'without a card.'
    ) from error
  kinds = {field.name: field.type for field in dataclasses.fields(WeightsCard)}
  # Any other JSON file of that name, as some programs leave, is not ours.
  if not isinstance(found, dict) or not (
    {'sha256', 'architecture'} <= found.keys()
    or 2 * len(found.keys() & kinds.keys()) > len(kinds)
  ):
    return None
  found = {**_OF_IMAGES, **_YOUNG_FIELDS, **found}
  if faults := _find_faults(found, kinds):
    raise InputError(
      f'{beside}: in this card of {path.name}, {"; ".join(faults)}. Fetch it '
      'again, or move it away to use the weights without a card.'
    )
  fields: dict[str, Any] = {name: found[name] for name in kinds}
  for name in ('mean', 'standard_deviation'):
    fields[name] = tuple(fields[name])
  return WeightsCard(**fields)


def require_ours(path: pathlib.Path) -> None:
  """Refuses to write over weights, or a card, that were not written here.

  Args:
    path: of the weights.

  Raises:
    InputError: if there is something without a card of its own beside it, the
      card is damaged, or it is that of another file.
  """
  beside = card_path(path)
  if not path.exists() and not beside.exists():
    return
  card = read_card(path)
  if card is None or card.file != path.name:
    found = f'that of {card.file}' if card else 'no card of it'
    raise InputError(
      f'{path}: there is something already, and {beside.name} beside it is '
      f'{found}, so that it was not written here. Choose another name, or move '
      'it away.'
    )


def write_card(path: pathlib.Path, card: WeightsCard) -> None:
  """Writes the card of a file of weights beside it."""
  fields = dataclasses.asdict(card)
  if not card.features:
    for name in _OF_IMAGES:
      del fields[name]
  described = json.dumps(fields, indent=2, ensure_ascii=False)
  write_text(card_path(path), described + '\n')


def require_unchanged(path: pathlib.Path) -> None:
  """Refuses a file that is not the one that the card beside it speaks of.

  Args:
    path: of the weights.

  Raises:
    InputError: if there is a card, and the file was changed since.
  """
  card = read_card(path)
  if card and card.sha256 != (found := digest_file(path)):
    raise InputError(
      f'{path}: its SHA-256 is {found}, but its card {card_path(path).name} '
      f'says {card.sha256}: one of the two was changed since. Export the '
      'encoder again, or fetch both again.'
    )


def summarize_model(model: Mapping[str, Any]) -> str:
  """Says in a line what an encoder is made of."""
  part = model['compatible_dimension']
  return (
    f'{model["architecture"]}, width {model["width"]:g}, stem {model["stem"]}, '
    f'pooling {model["pooling"]}, head {model["head"]}, '
    f'{model["dimension"]} dimensions{f", {part} compatible" if part else ""}'
  )


def _find_faults(
  found: Mapping[str, Any], kinds: Mapping[str, Any]
) -> list[str]:
  """Says which fields of a card are missing, or are what they cannot be."""
  faults = [
    f'{name} is {_spell(found[name]) if name in found else "missing"}, '
    f'wanted {_JSON_KINDS[kind]}'
    for name, kind in kinds.items()
    if name not in found or not _is_of_kind(found[name], kind)
  ]
  if faults:
    return faults
  if too_small := [
    f'{name} is {json.dumps(found[name])}, wanted more than 0'
    for name in ('width', 'dimension', 'image_size')
    # A head has no images.
    if not (name == 'image_size' and found['features'])
    and not found[name] > 0  # as NaN, which this JSON has, is not either
  ]:
    return too_small
  part, whole = found['compatible_dimension'], found['dimension']
  if not 0 <= part <= whole:
    return [f'compatible_dimension is {part} of {whole}, wanted 0 to {whole}']
  return []


def _spell(value: Any) -> str:
  """As JSON has it, but no longer than a line."""
  spelt = json.dumps(value)
  return spelt if len(spelt) <= 200 else brief(value)


def _is_of_kind(value: Any, kind: Any) -> bool:
  """Whether JSON gave what a field of a card holds."""
  if kind in (str, int):
    return type(value) is kind  # for True is an int, too
  if kind is float:
    return type(value) in (int, float)
  return isinstance(value, list) and all(_is_of_kind(x, float) for x in value)
