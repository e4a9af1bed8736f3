"""What is trained, and the state that a step maps to the next."""

from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import optax

from advbct_jax.methods.method import Metrics, OldModel, Progress, Samples
from advbct_jax.models.encoder import classifier
from advbct_jax.parallel import global_mean


class TrainedModel(nn.Module):
  """Encoder, classifier and method, so that one gradient reaches them all.

  Attributes:
    encoder: maps images to [B, D] embeddings.
    method: the compatibility loss, with the parameters that it learns.
    classes: the number C of classes.
    compatible_dimension: the width D_old of the part of an embedding that the
      method sees; None for all of it.
    axis_name: the mapped axis, None outside of any.
  """

  encoder: nn.Module
  method: nn.Module
  classes: int
  compatible_dimension: int | None = None
  axis_name: str | None = None

  def setup(self) -> None:
    """Makes the classifier."""
    self.classifier = classifier(self.classes)

  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array,
    old_embeddings: jax.Array,
    old: OldModel | None,
    progress: Progress,
  ) -> tuple[jax.Array, Metrics]:
    """The total loss of a batch: classification plus compatibility.

    Args:
      images: [B, H, W, 3] normalised images.
      labels: [B] classes.
      old_embeddings: [B, D_old] of the old encoder.
      old: what is known of the old model; None for methods that need none.
      progress: how far the training is.

    Returns:
      This device's share of the loss, and of the metrics.
    """
    embeddings = self.encoder(images, train=True)
    logits = self.classifier(embeddings)
    classification = global_mean(
      optax.softmax_cross_entropy_with_integer_labels(logits, labels),
      axis_name=self.axis_name,
    )
    kernel = self.classifier.variables['params']['kernel']
    part = slice(self.compatible_dimension)
    compatibility, metrics = self.method(
      Samples(embeddings[:, part], labels, old_embeddings, kernel[part]),
      old,
      progress,
    )
    hits = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
    return classification + compatibility, {
      'classification_loss': classification,
      'accuracy': global_mean(hits, axis_name=self.axis_name),
      **metrics,
    }


@struct.dataclass
class TrainState:
  """All that a step changes.

  Attributes:
    step: scalar int32, the steps done.
    params: of encoder, classifier and method.
    batch_stats: BatchNorm's running statistics of the same.
    opt_state: the optimiser's.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: optax.OptState


def create_state(
  model: TrainedModel,
  optimizer: optax.GradientTransformation,
  inputs: tuple[Any, ...],
  seed: int,
) -> TrainState:
  """Draws fresh parameters.

  Args:
    model: what is trained, outside of any mapped axis.
    optimizer: makes the optimiser's state.
    inputs: the arguments of `model`, of any batch size of at least 1.
    seed: of the draw.
  """

  def init(key: jax.Array) -> TrainState:
    variables = model.init(key, *inputs)
    params = variables['params']
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      batch_stats=variables.get('batch_stats', {}),
      opt_state=optimizer.init(params),
    )

  return jax.jit(init)(jax.random.key(seed))
