"""The adversary: does an embedding come from the new or the old encoder?"""

from functools import partial

from flax import linen as nn
import jax
import jax.numpy as jnp

from advbct_jax.errors import InputError

NORMS = ('per_domain', 'joint', 'none')


class Discriminator(nn.Module):
  """Linear to 100, BatchNorm, ReLU, linear to 2.

  Attributes:
    norm: how BatchNorm sees the two halves. `per_domain` normalises the new
      and the old embeddings one after the other, as published, which hides
      from the adversary every difference of mean and scale along its 100
      directions. `joint` puts both in one batch. `none` has no BatchNorm.
    hidden: width of the hidden layer.
    axis_name: the mapped axis over which BatchNorm shares its statistics.
  """

  norm: str = 'per_domain'
  hidden: int = 100
  axis_name: str | None = None

  def setup(self) -> None:
    """Makes the layers, which both halves share."""
    if self.norm not in NORMS:
      raise InputError(
        f'config.advbct.discriminator_norm is {self.norm!r}; wanted: one of '
        f'{", ".join(NORMS)}.'
      )
    # In full float32, as the embeddings are: what rounding blurs on GPU and TPU
    # the adversary could not tell, nor its gradient undo.
    dense = partial(nn.Dense, precision=jax.lax.Precision.HIGHEST)
    self.fc1 = dense(self.hidden)
    if self.norm != 'none':
      self.bn1 = nn.BatchNorm(
        use_running_average=False,
        momentum=0.9,
        epsilon=1e-5,
        axis_name=self.axis_name,
      )
    self.fc2 = dense(2)

  def __call__(
    self, new: jax.Array, old: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Tells new embeddings from old ones.

    Args:
      new: [B, D] embeddings of the new encoder.
      old: [B, D] embeddings of the old encoder.

    Returns:
      Two [B, 2] arrays of logits over (new, old): of the new embeddings and of
      the old ones.
    """
    new, old = self.fc1(new), self.fc1(old)
    # By the batch's statistics always: the adversary is thrown away after the
    # training, and nothing asks for its running ones.
    if self.norm == 'per_domain':
      new, old = self.bn1(new), self.bn1(old)
    elif self.norm == 'joint':
      new, old = jnp.split(self.bn1(jnp.concatenate([new, old])), 2)
    return self.fc2(nn.relu(new)), self.fc2(nn.relu(old))
