"""HOC: the fixed classifier, and a contrast of old with new embeddings.

The loss is λ·L_CE + (1 − λ)·L_HOC. L_CE is that of the d-Simplex; that of a
sample i in L_HOC is

  −μ·ô_i·f̂_i + log Σ_j e^(m_ij·μ·ô_i·f̂_j),

over all images j of the batch, with m_ij = 0 where i and j are of one class,
i itself among them, and else 1.

Biondi et al., "Stationary representations: optimally approximating
compatibility and implications for improved model replacements", CVPR 2024,
arXiv 2405.02581. As in the published code: an old embedding looks among the new
ones and not the other way round, its positive is not among what that one is
held against, and embeddings are normalised in the contrast alone.

The old embeddings may be anyone's vectors, but of them nobody knows whether
they lie by these vertices. Of a run that has other ones it is known.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from advbct_jax.methods.d_simplex import DSimplex
from advbct_jax.methods.method import (
  Batch,
  OldModel,
  Outcome,
  Progress,
  similarities,
)
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import gather, global_mean


class HOC(DSimplex):
  """Classification by the vertices of a simplex, and a contrast.

  Attributes:
    vertices: as of `DSimplex`, that of the old encoder.
    classification_weight: λ.
    scale: μ, of the cosines.
  """

  label: ClassVar[str] = 'HOC'
  color: ClassVar[str] = '#B2DF8A'
  needs_old_model: ClassVar[bool] = True

  classification_weight: float = 0.1
  scale: float = 10.0

  def __call__(
    self, batch: Batch, old: OldModel | None, progress: Progress
  ) -> Outcome:
    """The mean over all samples: of old classes or not, each has an ô."""
    del old, progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify_by_vertices(
      embeddings, batch.labels
    )
    new_unit = l2_normalize(embeddings)
    old_unit = l2_normalize(batch.old_embeddings)
    others = gather(new_unit, self.axis_name, differentiable=True)
    same = batch.labels[:, None] == gather(batch.labels, self.axis_name)
    logits = self.scale * similarities(old_unit, others)
    positive = self.scale * (old_unit * new_unit).sum(axis=-1)
    contrast = global_mean(
      jax.nn.logsumexp(jnp.where(same, 0, logits), axis=1) - positive,
      axis_name=self.axis_name,
    )
    share = self.classification_weight
    return Outcome(
      share * classification + (1 - share) * contrast,
      embeddings,
      metrics | {'contrast_loss': contrast},
    )
