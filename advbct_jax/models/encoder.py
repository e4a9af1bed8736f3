"""The encoder: an image becomes an embedding. And the classifier on top."""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from advbct_jax.errors import InputError
from advbct_jax.models.backbones import make_backbone

# What a backbone may compute in.
COMPUTE_DTYPES = ('float32', 'bfloat16')

# How pooled features become an embedding.
HEADS = ('batch_norm', 'batch_norm_relu', 'linear', 'none')


class Encoder(nn.Module):
  """A backbone, and the layer that makes its features an embedding.

  Attributes:
    backbone: a module that maps images, or stored features, to [B, E] features.
    dimension: the width D of an embedding.
    head: `batch_norm`, a linear layer without bias and a BatchNorm, as AdvBCT
      has it; `batch_norm_relu`, the same and a ReLU, as torchreid has it;
      `linear`, one with a bias, as OpenCompatible has it; or `none`, where the
      features are the embedding and E is D.
    axis_name: the mapped axis over which BatchNorm shares its statistics.
  """

  backbone: nn.Module
  dimension: int = 256
  head: str = 'batch_norm'
  axis_name: str | None = None

  def setup(self) -> None:
    """Makes the head; published weights go by the names of its layers."""
    if self.head == 'none':
      return
    # In full float32, which GPUs and TPUs don't take by themselves: stores and
    # the losses see embeddings as they leave this layer, and it costs little
    # beside the backbone.
    self.projection = nn.Dense(
      self.dimension,
      use_bias=self.head == 'linear',
      precision=jax.lax.Precision.HIGHEST,
    )
    if self.head.startswith('batch_norm'):
      self.bn = nn.BatchNorm(
        momentum=0.9, epsilon=1e-5, axis_name=self.axis_name
      )

  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """Embeds images.

    Args:
      images: [B, H, W, 3] normalised images.
      train: whether BatchNorm takes the batch's statistics.

    Returns:
      [B, D] float32 embeddings, not normalised to unit length.

    Raises:
      InputError: if there is no head and the features are of another width.
    """
    return self.project(self.features(images, train), train)

  def features(self, images: jax.Array, train: bool) -> jax.Array:
    """What the backbone says about images, before the head.

    Args:
      images: [B, H, W, 3] normalised images.
      train: whether BatchNorm takes the batch's statistics.

    Returns:
      [B, E] pooled features, float32 whatever the backbone computes in.
    """
    return self.backbone(images, train).astype(jnp.float32)

  def project(self, features: jax.Array, train: bool) -> jax.Array:
    """Makes embeddings of features.

    Args:
      features: [B, E] from `features`.
      train: whether BatchNorm takes the batch's statistics.

    Returns:
      [B, D] float32 embeddings, not normalised to unit length.

    Raises:
      InputError: if there is no head and the features are of another width.
    """
    if self.head == 'none':
      if features.shape[-1] != self.dimension:
        raise InputError(
          f'config.model.head is none, so that the {features.shape[-1]} '
          'features of the backbone are the embedding, but '
          f'config.model.dimension is {self.dimension}; wanted: '
          f'{features.shape[-1]}.'
        )
      return features
    projected = self.projection(features)
    if self.head == 'linear':
      return projected
    embeddings = self.bn(projected, use_running_average=not train)
    return nn.relu(embeddings) if self.head.endswith('_relu') else embeddings


def classifier(classes: int, name: str | None = None) -> nn.Dense:
  """A linear classifier without bias on embeddings as they are.

  Args:
    classes: the number C of classes.
    name: of the module.

  Returns:
    A module that maps [B, D] embeddings to [B, C] logits.
  """
  # In full float32, as the embeddings are.
  return nn.Dense(
    classes, use_bias=False, precision=jax.lax.Precision.HIGHEST, name=name
  )


def l2_normalize(x: Any) -> jax.Array:
  """Scales the vectors in the last axis to unit length; zeros stay zeros."""
  # The norm's gradient at 0 is not finite, so the maximum is taken before the
  # root.
  squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x / jnp.sqrt(jnp.maximum(squared, 1e-24))


def make_encoder(
  architecture: str,
  width: float = 1.0,
  stem: str = 'imagenet',
  pooling: str = 'auto',
  head: str = 'batch_norm',
  dimension: int = 256,
  dtype: str = 'auto',
  axis_name: str | None = None,
) -> Encoder:
  """Builds an encoder by name.

  Args:
    architecture: see `make_backbone`, as for `width`, `stem` and `pooling`.
    width: factor on the backbone's channel counts.
    stem: of a ResNet.
    pooling: how a map of features becomes one vector.
    head: one of `HEADS`; see `Encoder`.
    dimension: the width D of an embedding.
    dtype: `float32`, `bfloat16`, or `auto`, which is bfloat16 on GPU and TPU.
    axis_name: the mapped axis over which BatchNorm shares its statistics.

  Raises:
    InputError: if a name is unknown.
  """
  if head not in HEADS:
    raise InputError(
      f'config.model.head is {head!r}; wanted: one of {", ".join(HEADS)}.'
    )
  if dtype not in ('auto', *COMPUTE_DTYPES):
    raise InputError(
      f'config.model.dtype is {dtype!r}; wanted: auto, float32 or bfloat16.'
    )
  if dtype == 'auto':
    dtype = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  backbone = make_backbone(
    architecture, width, stem, pooling, jnp.dtype(dtype), axis_name
  )
  return Encoder(backbone, dimension, head, axis_name)
