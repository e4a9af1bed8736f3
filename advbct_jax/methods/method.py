"""What a method is given, and what it gives back."""

from flax import struct
import jax
import numpy as np

from advbct_jax.embeddings.class_statistics import ClassStatistics


@struct.dataclass
class OldModel:
  """What is known of the old model, the same at every step.

  Attributes:
    statistics: of its C_old classes.
    old_class: [C] the old model's number of each class, −1 for a class that it
      never saw.
    classifier: [C_old, D] its linear classifier of embeddings as they are;
      None where it has none, or none that is known.
  """

  statistics: ClassStatistics
  old_class: jax.Array | np.ndarray
  classifier: jax.Array | np.ndarray | None = None


@struct.dataclass
class Samples:
  """One device's part of a batch, as a method sees it.

  Attributes:
    embeddings: [B, D] of the new encoder, the part of them that shall be
      compatible, not normalised.
    labels: [B] classes.
    old_embeddings: [B, D] of the old encoder on the same images, not
      normalised.
    classifier: [D, C] the kernel of the new classifier, the part of it that
      belongs to these embeddings; None where no method asks for it.
  """

  embeddings: jax.Array
  labels: jax.Array
  old_embeddings: jax.Array
  classifier: jax.Array | None = None


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


Metrics = dict[str, jax.Array]
