"""What is trained, and the state that a step maps to the next."""

from functools import partial
from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import optax

from advbct_jax.class_shards import ClassLayout
from advbct_jax.methods.method import (
  MEMORY,
  Batch,
  Method,
  OldModel,
  Outcome,
  Progress,
)
from advbct_jax.models.encoder import Encoder


class TrainedModel(nn.Module):
  """A method and what it trains, each under a name of its own in checkpoints.

  The method holds encoder and classifier too. Since these are first met here,
  their variables lie beside the method's, not within them, whatever the method.

  Attributes:
    encoder: that of the method.
    classifier: that of the method.
    method: gives the loss.
  """

  encoder: Encoder
  classifier: nn.Module
  method: Method

  def __call__(
    self, batch: Batch, old: OldModel | None, progress: Progress
  ) -> Outcome:
    """What the method makes of this device's part of a batch."""
    return self.method(batch, old, progress)


def trained_model(method: Method) -> TrainedModel:
  """Wraps a method for training."""
  return TrainedModel(method.encoder, method.classifier, method)


@struct.dataclass
class TrainState:
  """All that a step changes.

  Attributes:
    step: scalar int32, the steps done.
    params: of encoder, classifier and method.
    batch_stats: BatchNorm's running statistics of the same.
    opt_state: the optimiser's.
    memory: what the method keeps, the same on all devices by its own care.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: optax.OptState
  memory: Any = struct.field(default_factory=dict)


def create_state(
  model: TrainedModel,
  optimizer: optax.GradientTransformation,
  inputs: tuple[Any, ...],
  seed: int,
  layout: ClassLayout | None = None,
) -> TrainState:
  """Draws fresh parameters.

  Args:
    model: what is trained, outside of any mapped axis.
    optimizer: makes the optimiser's state.
    inputs: the arguments of `model`, of any batch size of at least 1.
    seed: of the draw.
    layout: where the classes shall lie; None for one device.
  """

  def init(key: jax.Array, inputs: tuple[Any, ...]) -> TrainState:
    variables = model.init(key, *inputs)
    params = variables['params']
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      batch_stats=variables.get('batch_stats', {}),
      opt_state=optimizer.init(params),
      memory=variables.get(MEMORY, {}),
    )

  draw = partial(layout.draw, init) if layout else jax.jit(init)
  return draw(jax.random.key(seed), inputs)
