"""What a method is given, what it gives back, and what it may keep.

A method owns the whole loss of a training batch. docs/method.md shows the least
of them, and says what a method may do beside.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, ClassVar

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from advbct_jax.class_shards import ClassLayout, WholeClasses
from advbct_jax.embeddings.class_statistics import ClassStatistics
from advbct_jax.methods.margins import Margin
from advbct_jax.models.encoder import Encoder, l2_normalize
from advbct_jax.parallel import AXIS, global_mean

Metrics = dict[str, jax.Array]
# What a method keeps from step to step, as `self.variable(MEMORY, …)` names it.
Memory = Mapping[str, Any]
MEMORY = 'memory'


@struct.dataclass
class OldModel:
  """What is known of the old model, the same at every step.

  Attributes:
    statistics: of its C_old classes.
    old_class: [C] the old model's number of each class, −1 for a class that it
      never saw.
    classifier: [C_old, D] its linear classifier of embeddings as they are;
      None where it has none, or none that is known.
    prepared: what the method's `prepare` has made of the old side.
  """

  statistics: ClassStatistics
  old_class: jax.Array | np.ndarray
  classifier: jax.Array | np.ndarray | None = None
  prepared: Any = None


@dataclasses.dataclass(frozen=True)
class OldSide:
  """What is known of the old encoder on the host, about all training images.

  Attributes:
    embeddings: [N, D_old] float32 of every row of the image set, not
      normalised.
    labels: [N] int32 the class of every row, as the new encoder numbers them;
      −1 for an image that it is not trained on.
    old_labels: [N] int32 the same as the old model numbers them; −1 for an
      image that it was not trained on.
    model: its classes and classifier.
    others: what further encoders say of the same images: for each name in the
      method's `stores` [N, D_i] float32.
  """

  embeddings: np.ndarray
  labels: np.ndarray
  old_labels: np.ndarray
  model: OldModel
  others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@struct.dataclass
class Batch:
  """One device's part of a batch, as a method sees it.

  Attributes:
    images: [B, H, W, 3] augmented and normalised.
    labels: [B] classes.
    rows: [B] the images' positions in the training set, by which prepared
      arrays are looked up.
    old_embeddings: [B, D_old] of the old encoder on the same images, not
      normalised; D_old is 0 where the method needs no old model.
    other_embeddings: [B, D_i] of each of the method's `stores`.
    key: of the method's draws in this step, the same on all devices. What is
      drawn for a sample must not depend on the device that it lies on: see
      `sample_keys`.
  """

  images: jax.Array
  labels: jax.Array
  rows: jax.Array
  old_embeddings: jax.Array
  other_embeddings: Mapping[str, jax.Array]
  key: jax.Array

  def sample_keys(self) -> jax.Array:
    """[B] keys, each of one image at this step, whichever device has it."""
    return jax.vmap(jax.random.fold_in, (None, 0))(self.key, self.rows)


@struct.dataclass
class Progress:
  """How far the training is.

  Attributes:
    step: scalar, the steps done, from 0.
    steps: scalar, the steps of the whole training.
    steps_per_epoch: scalar.
  """

  step: jax.Array
  steps: int = struct.field(pytree_node=False)
  steps_per_epoch: int = struct.field(pytree_node=False)

  @property
  def fraction(self) -> jax.Array:
    """The part of the training that is done, from 0 to 1."""
    return self.step / self.steps

  @property
  def epoch(self) -> jax.Array:
    """The epoch that the step belongs to, from 0."""
    return self.step // self.steps_per_epoch

  @property
  def epochs(self) -> int:
    """The epochs of the whole training."""
    return -(-self.steps // self.steps_per_epoch)


@struct.dataclass
class Outcome:
  """What a method makes of a batch.

  Attributes:
    loss: this device's share of the loss, a scalar; or [L] shares of several,
      where the method says by `combine_gradients` how their gradients become
      one.
    embeddings: [B, D] of the new encoder, as they would be searched. The log
      says how they meet the old ones.
    metrics: this device's shares of scalars that are worth logging.
  """

  loss: jax.Array
  embeddings: jax.Array
  metrics: Metrics


class Method(nn.Module):
  """How a new encoder is tied to an old one: the whole loss of a batch.

  A subclass defines `__call__(batch, old, progress) -> Outcome`. Its options
  are its own fields with their defaults, which `config.NAME` overrides. It may
  learn parameters (`self.param`, submodules) and, in the collection `MEMORY`,
  keep variables: what it writes there must be the same on all devices
  (`parallel.gather` brings a batch together); it is checkpointed, never
  averaged.

  Attributes:
    encoder: maps [B, H, W, 3] images to [B, D] embeddings, not normalised:
      `self.encoder(images, train=True)`, or in parts by its `features` and
      `project`.
    classifier: of C classes, linear, without bias. It has no parameters where
      the method never calls it.
    classes: the number C of new classes.
    class_layout: whether each device has all of them or a shard; None for all.
      `classify`, `class_parameter` and `class_weights` mind it. On a shard the
      classifier gives the logits of that shard's classes.
    compatible_dimension: the width D_old of the part of an embedding that old
      ones are compared with; None for all of it.
    axis_name: the mapped axis, None outside of any.
    places: [C] of each class its place among all labels of the data set, which
      stays whatever a model is trained on, while classes are numbered as their
      split has it; None where these are the same.
  """

  # How tables and plots write and colour it.
  label: ClassVar[str]
  color: ClassVar[str]
  # Whether there must be an old encoder.
  needs_old_model: ClassVar[bool] = True
  # What a method that asks for the old classifier does where none is known, so
  # that `OldModel.classifier` is None: a clause for users. Empty for a method
  # that never asks.
  without_classifier: ClassVar[str] = ''
  # Methods of which one must have trained the old encoder, where it is a run of
  # this package. Empty for any.
  old_methods: ClassVar[tuple[str, ...]] = ()
  # Names of further stores of the training images that it reads, found by
  # `config.stores.NAME`.
  stores: ClassVar[tuple[str, ...]] = ()
  # Names of its own parameters that each new class has one of, which are made
  # by `class_parameter`.
  class_parameters: ClassVar[tuple[str, ...]] = ()
  # Why it cannot do with classes that are cut over the devices: a clause for
  # users. Empty for a method that can.
  needs_whole_classes: ClassVar[str] = ''
  # Says how the pmean'ed gradients of L losses become one: maps stacked
  # gradients, [L, …] a leaf, to a tree without that axis. None: there is one
  # loss.
  combine_gradients: ClassVar[Any] = None

  encoder: Encoder
  classifier: nn.Module
  classes: int
  class_layout: ClassLayout | None = None
  compatible_dimension: int | None = None
  axis_name: str | None = AXIS
  # Modules are compared and hashed, and an array can't be.
  places: np.ndarray | None = dataclasses.field(default=None, compare=False)

  @property
  def refresh_epochs(self) -> tuple[int, ...]:
    """The epochs, from 0, before which `refresh` is called."""
    return ()

  def prepare(self, side: OldSide) -> Any:
    """Makes, once and on the host, what the steps need of the old side.

    It is not part of the state: whenever a run starts or goes on, this is
    called again, and must give the same. A dry run calls it with embeddings
    that are all zero, for the shapes.

    Args:
      side: of the training set.

    Returns:
      A tree of arrays, found by the steps in `OldModel.prepared`.
    """
    del side

  def refresh(
    self, memory: Memory, side: OldSide, embed: Callable[[], np.ndarray]
  ) -> Memory:
    """Renews the memory on the host, before each of `refresh_epochs`.

    Args:
      memory: as the last step has left it, NumPy arrays by name.
      side: of the training set.
      embed: gives [N, D] float32, what the new encoder says by now of every
        training image, without augmentation.

    Returns:
      The memory of the next step, of the same names, shapes and types.
    """
    del side, embed
    return memory

  def compatible(self, embeddings: jax.Array) -> jax.Array:
    """[B, D_old] the part of [B, D] embeddings that old ones are like."""
    return embeddings[:, : self.compatible_dimension]

  def classify(
    self, embeddings: jax.Array, labels: jax.Array, margin: Margin | None = None
  ) -> tuple[jax.Array, Metrics]:
    """Classification by the new classifier: the mean cross-entropy.

    Args:
      embeddings: [B, D], not normalised.
      labels: [B] classes.
      margin: makes logits of [B, C] cosines to the classifier's weights, such
        as `ArcFace`; None takes the classifier's own logits.

    Returns:
      This device's share of the loss, and of `classification_loss` and
      `accuracy`.
    """
    embeddings, labels = self.layout.gather(embeddings, labels)
    scores = logits = self.classifier(embeddings)
    if margin is not None:
      # Called above too, for that is what makes its weights.
      scores = self.classifier_cosines(embeddings)
      logits = margin(scores, labels)
    return self.cross_entropy(logits, labels, scores)

  def cross_entropy(
    self, logits: jax.Array, labels: jax.Array, scores: jax.Array | None = None
  ) -> tuple[jax.Array, Metrics]:
    """Classification by given logits.

    Args:
      logits: [B, C].
      labels: [B] classes.
      scores: [B, C], by which the accuracy is told; None for the logits.

    Returns:
      As `classify`.
    """
    scores = logits if scores is None else scores
    loss = global_mean(
      self.layout.cross_entropy(logits, labels), axis_name=self.axis_name
    )
    hits = self.layout.hits(scores, labels).astype(jnp.float32)
    return loss, {
      'classification_loss': loss,
      'accuracy': global_mean(hits, axis_name=self.axis_name),
    }

  @property
  def layout(self) -> ClassLayout:
    """Where the new classes lie."""
    return self.class_layout or WholeClasses(self.classes)

  def class_parameter(
    self, name: str, init: Callable[..., jax.Array], labels: jax.Array
  ) -> jax.Array:
    """[B] a parameter that each new class has, of [B] classes.

    Args:
      name: one of `class_parameters`.
      init: draws it by a key and a shape.
      labels: [B] classes.
    """
    values = self.param(name, init, (self.layout.count,))
    return self.layout.look_up(values, labels)

  def class_weights(self, labels: jax.Array) -> jax.Array:
    """[B, D] the new classifier's weights of [B] classes, once called."""
    return self.layout.look_up(self.classifier_kernel().T, labels)

  def classifier_kernel(self) -> jax.Array:
    """[D, C] the weights of the new classifier, once it was called."""
    return self.classifier.variables['params']['kernel']

  def classifier_cosines(self, embeddings: jax.Array) -> jax.Array:
    """[B, C] cosines of [B, D] embeddings to the classifier's weights."""
    weights = l2_normalize(self.classifier_kernel().T)
    return similarities(l2_normalize(embeddings), weights)


def similarities(
  one: jax.Array | np.ndarray, other: jax.Array | np.ndarray
) -> jax.Array:
  """Dot products in full float32, on any device.

  GPUs and TPUs multiply in fewer digits unless told; divided by a temperature
  of 0.01, or near ±1 in an arccos, those would be lost.

  Args:
    one: [B, D].
    other: [N, D].

  Returns:
    [B, N].
  """
  return jnp.matmul(one, other.T, precision=jax.lax.Precision.HIGHEST)
