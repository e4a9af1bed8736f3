"""Retrieval sets of a few images, and encoders that know them by heart."""

import numpy as np

from advbct_jax.data.ground_truth import (
  Gldv2GroundTruth,
  RetrievalSet,
  RevisitedGroundTruth,
)
from advbct_jax.data.images import ImageSet, digest_ids
from advbct_jax.embeddings.store import Card, write_store


def image_set(name, count, boxes=None):
  ids = [f'{name}{position}' for position in range(count)]
  return ImageSet(name, ids, images=[b''] * count, boxes=boxes)


def gldv2_set(relevant, usage, gallery=4, name='landmarks'):
  return RetrievalSet(
    name,
    image_set(f'{name}-queries', len(relevant)),
    image_set(f'{name}-gallery', gallery),
    Gldv2GroundTruth([np.array(r, int) for r in relevant], usage),
  )


def revisited_set(easy, hard, junk, gallery=4, name='oxford', boxes=None):
  return RetrievalSet(
    name,
    image_set(f'{name}-queries', len(easy), boxes),
    image_set(f'{name}-gallery', gallery),
    RevisitedGroundTruth(
      *([np.array(q, int) for q in grade] for grade in (easy, hard, junk))
    ),
  )


def card_of(ids, **changes):
  ids = list(ids)
  facts = {
    'encoder': 'resnet18',
    'weights': 'ab12',
    'dimension': 2,
    'preprocessing': 'squash to 8 pixels',
    'images': 'gallery',
    'ids_digest': digest_ids(ids),
    'count': len(ids),
    'chunk_rows': len(ids) // 2 + 1,
    'complete': True,
  }
  return Card(**(facts | changes))


def encoder(folder, vectors, **changes):
  """A `Source` that stores given vectors, {image set's name: [N, D]}."""

  def embed(images):
    rows = np.array(vectors[images.name], np.float32)
    card = card_of(
      images.ids, images=images.name, dimension=rows.shape[1], **changes
    )
    return write_store(folder / images.name, card, images.ids, rows)

  return embed
