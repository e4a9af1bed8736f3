"""Batches whose images are what the encoder says of them."""

from flax import linen as nn
import jax
import numpy as np

from advbct_jax.methods.method import Batch


class GivenEmbeddings(nn.Module):
  """An encoder that gives back its input."""

  def __call__(self, images, train):
    return images


def batch_of(embeddings, labels, old_embeddings, rows=None, **others):
  """A batch of given new and old embeddings."""
  if rows is None:
    rows = np.arange(len(labels), dtype=np.int32)
  return Batch(
    images=embeddings,
    labels=labels,
    rows=rows,
    old_embeddings=old_embeddings,
    other_embeddings=others,
    key=jax.random.key(3),
  )
