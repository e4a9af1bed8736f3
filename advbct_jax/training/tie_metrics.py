"""How new embeddings meet the old ones while they are trained."""

import jax
import jax.numpy as jnp

from advbct_jax.methods.method import Batch, Method, Metrics, similarities
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import gather, global_mean


def tie_metrics(method: Method, embeddings: jax.Array, batch: Batch) -> Metrics:
  """What the old index would say of new queries, within the batch.

  Args:
    method: whose embeddings they are.
    embeddings: [B, D] of the new encoder.
    batch: this device's part of the batch, with its old embeddings.

  Returns:
    This device's shares of `cosine_to_old`, the mean cosine of new to old
    embeddings of the same images, and of `cross_recall_at_1`: how often, among
    the other images of the whole batch, the one whose old embedding is most
    similar is of the same class. Images of whose class there is no other are
    left out. Nothing where the method has no old model.
  """
  if not method.needs_old_model:
    return {}
  new_unit = l2_normalize(method.compatible(embeddings))
  old_unit = l2_normalize(batch.old_embeddings)
  cosine = (new_unit * old_unit).sum(axis=-1)
  axis = method.axis_name
  labels, rows, gallery = (
    gather(x, axis) for x in (batch.labels, batch.rows, old_unit)
  )
  itself = batch.rows[:, None] == rows
  relevant = (batch.labels[:, None] == labels) & ~itself
  found = jnp.where(itself, -jnp.inf, similarities(new_unit, gallery))
  hits = jnp.take_along_axis(relevant, found.argmax(axis=1)[:, None], axis=1)
  return {
    'cosine_to_old': global_mean(cosine, axis_name=axis),
    'cross_recall_at_1': global_mean(
      hits[:, 0].astype(jnp.float32), relevant.any(axis=1), axis
    ),
  }
