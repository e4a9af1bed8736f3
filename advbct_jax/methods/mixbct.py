"""MixBCT: part of each batch is classified by its old embeddings.

Of a batch of B images ⌊r·B⌋ take the old embedding of the same image in the
place of the new one, f'_i = ô_i; then one margin loss is over all of them. The
classifier so finds weights that suit both spaces, and the new encoder has no
other tie. Only credible old embeddings take part: of each class the ⌈q·n⌉
nearest to its mean.

Liang et al., "MixBCT: towards self-adapting backward-compatible training",
2023, arXiv 2308.06948. As in the published code; there each device draws from
its own part of the batch, here the draw is from the whole batch and the same on
any number of devices.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from advbct_jax.embeddings.class_statistics import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.methods.margins import MARGINS
from advbct_jax.methods.method import (
  Batch,
  Method,
  OldModel,
  OldSide,
  Outcome,
  Progress,
)
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import gather, global_mean


class MixBCT(Method):
  """One margin loss over new embeddings and old ones in their place.

  Attributes:
    ratio: r, the share of a batch whose old embeddings take part.
    credible: q, the share of each class whose old embeddings may.
    margin: `arcface`, as published, or `cosface`.
    margin_scale: s, of the cosines.
    margin_size: m, in radians for `arcface`.
  """

  label: ClassVar[str] = 'MixBCT'
  color: ClassVar[str] = '#44AA99'

  ratio: float = 0.3
  credible: float = 0.9
  margin: str = 'arcface'
  margin_scale: float = 64.0
  margin_size: float = 0.5

  def __post_init__(self) -> None:
    """Refuses options that are none."""
    super().__post_init__()
    if self.margin not in MARGINS:
      raise InputError(
        f'config.mixbct.margin is {self.margin!r}; wanted: one of '
        f'{", ".join(MARGINS)}.'
      )
    for name in ('ratio', 'credible'):
      if not 0 <= getattr(self, name) <= 1:
        raise InputError(
          f'config.mixbct.{name} is {getattr(self, name)}; wanted: a share '
          'from 0 to 1.'
        )

  def prepare(self, side: OldSide) -> Any:
    """[N] whether each old embedding is credible."""
    return credible_embeddings(side.embeddings, side.labels, self.credible)

  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """The mean margin loss of the mixed batch."""
    del progress
    embeddings = self.encoder(batch.images, train=True)
    chosen = self._choose(batch, old.prepared[batch.rows])
    # A wider encoder has components that the old one has not.
    missing = embeddings.shape[1] - batch.old_embeddings.shape[1]
    known = jnp.pad(l2_normalize(batch.old_embeddings), ((0, 0), (0, missing)))
    mixed = jnp.where(chosen[:, None], known, embeddings)
    margin = MARGINS[self.margin](self.margin_scale, self.margin_size)
    loss, metrics = self.classify(mixed, batch.labels, margin)
    replaced = global_mean(chosen.astype(jnp.float32), axis_name=self.axis_name)
    return Outcome(loss, embeddings, metrics | {'replaced': replaced})

  def _choose(self, batch: Batch, credible: jax.Array) -> jax.Array:
    """[B] which samples' old embeddings take part, drawn over all devices."""
    draws = jax.vmap(jax.random.uniform)(batch.sample_keys())
    draws = jnp.where(credible, draws, jnp.inf)
    everyone = jnp.sort(gather(draws, self.axis_name))
    count = int(self.ratio * len(everyone))
    if not count:
      return jnp.zeros_like(credible)
    # Fewer than `count` are credible where even the last of them is infinite.
    return credible & (draws <= everyone[count - 1])


def credible_embeddings(
  embeddings: np.ndarray, labels: np.ndarray, share: float
) -> np.ndarray:
  """Finds the embeddings that lie nearest to the mean of their class.

  Args:
    embeddings: [N, D] old embeddings, not normalised.
    labels: [N] classes, −1 for none, of which nothing is credible.
    share: q, of each class of n embeddings ⌈q·n⌉ are credible.

  Returns:
    [N] bool.

  References:
    Liang et al., 2023; as in the published code.

  >>> angles = np.radians([0, 10, 20, 90])
  >>> points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
  >>> credible_embeddings(points, np.zeros(4, int), 0.75).tolist()
  [True, True, True, False]
  """
  order = np.argsort(labels, kind='stable')
  counts = np.bincount(labels[labels >= 0])
  # Those of no class come first.
  starts = len(labels) - counts.sum() + np.cumsum(counts) - counts
  credible = np.zeros(len(labels), bool)
  for start, count in zip(starts, counts, strict=True):
    members = order[start : start + count]
    unit = unit_rows(embeddings[members])
    # In length 1, a mean's own length changes no order of distances to it.
    nearness = unit @ unit.mean(axis=0)
    kept = int(np.ceil(share * count))
    credible[members[np.argsort(-nearness, kind='stable')[:kept]]] = True
  return credible
