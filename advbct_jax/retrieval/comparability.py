"""Refuses to compare vectors that do not belong together.

Nothing in a vector says which encoder it is from: where widths happen to agree,
a mixture gives figures that look like figures. So every store is held against
the images that it should be about, and against the other stores of its side.
"""

from collections.abc import Sequence
from typing import Any

from advbct_jax.data.images import ImageSet
from advbct_jax.embeddings.sources import Source
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError


class EncoderStores:
  """The stores of one side of a comparison, held to be of one encoder.

  Attributes:
    role: `old`, `new`, `independent` or `adapted`, for messages.
    identity: the encoder, weights, dimension and preprocessing that all its
      stores must have; those of the first one. Empty before.
  """

  def __init__(self, role: str, source: Source):
    self.role = role
    self.identity: dict[str, Any] = {}
    self._source = source

  def store(self, images: ImageSet) -> EmbeddingStore:
    """Fills or opens the store of some images.

    Args:
      images: N images.

    Returns:
      A complete store of these images in this order.

    Raises:
      InputError: if the store is of other images, another order or another
        encoder than the side's first one, or incomplete; the message says what
        differs.
    """
    store = self._source(images)
    card = store.card
    self.identity = self.identity or card.identity()
    found = card.identity() | {
      'count': card.count,
      'ids_digest': card.ids_digest,
      'complete': card.complete,
    }
    wanted = self.identity | {
      'count': len(images),
      'ids_digest': images.ids_digest(),
      'complete': True,
    }
    # Whoever made vectors elsewhere may say nothing of how.
    if card.cropped is not None:
      found |= {'cropped': card.cropped, 'upright': card.upright}
      wanted |= {
        'cropped': images.boxes is not None,
        'upright': images.upright,
      }
    differences = [
      f'{name}: {found[name]} there, wanted {wanted[name]}'
      for name in wanted
      if found[name] != wanted[name]
    ]
    if differences:
      raise InputError(
        f'{store.path}: this store cannot stand for the images {images.name} '
        f'on the {self.role} side:\n  '
        + '\n  '.join(differences)
        + '\nAll stores of one side must be of one encoder with one '
        'preprocessing; ids_digest differs where the images or their order '
        'do. Name the right store, or have this one filled again.'
      )
    return store


def require_one_encoder(stores: Sequence[EmbeddingStore]) -> None:
  """Refuses stores of different encoders.

  Raises:
    InputError: naming two of them and what differs.
  """
  first, *others = stores
  wanted = first.card.identity()
  for store in others:
    found = store.card.identity()
    if differences := [
      f'{name}: {found[name]} there, {wanted[name]} in {first.path}'
      for name in wanted
      if found[name] != wanted[name]
    ]:
      raise InputError(
        f'{store.path}: of another encoder than {first.path}:\n  '
        + '\n  '.join(differences)
        + '\nWanted: stores of the one old encoder. Vectors of two encoders '
        "don't compare."
      )


def require_comparable(
  queries: EmbeddingStore, gallery: EmbeddingStore
) -> None:
  """Refuses to search an old gallery with vectors of another width.

  Wider queries pass where their encoder was trained to have a compatible part
  of just the gallery's width.

  Raises:
    InputError: naming both stores and widths.
  """
  card = queries.card
  width = card.compatible_dimension or card.dimension
  if width != gallery.card.dimension:
    part = f' (compatible: {width})' if card.compatible_dimension else ''
    raise InputError(
      f'{queries.path}: embeddings of width {card.dimension}{part}, but those '
      f'of {gallery.path} have {gallery.card.dimension}. The cross-test '
      'compares new queries with the old gallery: train the new encoder at the '
      'old width, or wider with config.model.compatible_dimension set to it; '
      'or judge it without an old one.'
    )
