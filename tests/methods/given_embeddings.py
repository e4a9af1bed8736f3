"""Batches whose images are what the encoder says of them."""

from flax import linen as nn
import jax
import numpy as np

from advbct_jax.methods.method import Batch


class GivenEmbeddings(nn.Module):
  """An encoder that gives back its input."""

  def __call__(self, images, train):
    return images


class PrunedEmbeddings(nn.Module):
  """An encoder that maps its input by what a subnetwork has a part of."""

  @nn.compact
  def __call__(self, images, train):
    return nn.Dense(
      images.shape[-1], precision=jax.lax.Precision.HIGHEST, name='backbone'
    )(images)


def encoder_for(name):
  """The least encoder that a method takes."""
  return PrunedEmbeddings() if name == 'prunnet' else GivenEmbeddings()


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
