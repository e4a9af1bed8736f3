"""No tie to any old model: plain classification.

It trains old encoders, and the independent new encoder (M*) that compatible
ones are measured against.
"""

from typing import ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp

from advbct_jax.methods.method import Metrics, OldModel, Progress, Samples
from advbct_jax.parallel import AXIS


class Independent(nn.Module):
  """A compatibility loss of zero.

  Attributes:
    classes: the number of classes, which it doesn't need.
    axis_name: the mapped axis, which it doesn't need.
  """

  label: ClassVar[str] = 'Independent'
  color: ClassVar[str] = '#009E73'
  needs_old_model: ClassVar[bool] = False

  classes: int
  axis_name: str | None = AXIS

  def __call__(
    self, samples: Samples, old: OldModel | None, progress: Progress
  ) -> tuple[jax.Array, Metrics]:
    """Returns 0 and nothing to log."""
    del samples, old, progress
    return jnp.zeros(()), {}
