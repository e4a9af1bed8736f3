"""NCCL: contrast with the neighbourhood of old embeddings of one class.

A queue holds the last old embeddings ô_j, the new classifier's logits z_j of
them when they came in, and their classes. The loss of a sample i against those
j of its own class y is

  −1/n_y · Σ_j w_ij · log softmax_k(f̂_i·ô_k / τ)_j,  w_ij = (1 + ô_i·ô_j)/2,

once on embeddings, and once with z in the place of embeddings. Old embeddings
of which the old model is unsure, those whose softmax entropy is above ln(C)/2,
stay out of the queue.

Wu et al., "Neighborhood consensus contrastive learning for backward-compatible
representation", AAAI 2022, arXiv 2108.03372. As in the code that MixBCT's
authors published, but for three things: places of the queue that nothing has
filled yet are left out of the softmax, where there they are zeros; samples
without a credible neighbour take no part; and the entropy filter, which they
left out, is here. Where the old model has no classifier all old embeddings are
credible.
"""

from typing import Any, ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advbct_jax.methods.method import (
  MEMORY,
  Batch,
  Method,
  OldModel,
  OldSide,
  Outcome,
  Progress,
  similarities,
)
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.parallel import gather, global_mean

# Rows whose logits are in memory at a time.
_BLOCK_ROWS = 4096


class NCCL(Method):
  """Classification plus two contrasts with a queue of the old side.

  The queue takes `queue` × (D_old + C) × 4 bytes on every device.

  Attributes:
    queue: how many old embeddings it holds.
    temperature: τ.
    embedding_weight: of the contrast of embeddings.
    logit_weight: of the contrast of logits.
  """

  label: ClassVar[str] = 'NCCL'
  color: ClassVar[str] = '#332288'
  without_classifier: ClassVar[str] = 'takes all old embeddings as credible'
  needs_whole_classes: ClassVar[str] = (
    'its queue holds the logits of all classes'
  )

  queue: int = 8192
  temperature: float = 1.0
  embedding_weight: float = 1.0
  logit_weight: float = 0.01

  def prepare(self, side: OldSide) -> Any:
    """[N] whether each old embedding is credible."""
    if side.model.classifier is None:
      return np.ones(len(side.embeddings), bool)
    classifier = np.asarray(side.model.classifier)
    # So that 1.6 million rows don't become 1.6 million × C logits at once.
    blocks = [
      confident(side.embeddings[start : start + _BLOCK_ROWS] @ classifier.T)
      for start in range(0, len(side.embeddings), _BLOCK_ROWS)
    ]
    return np.concatenate([np.zeros(0, bool), *blocks])

  @nn.compact
  def __call__(
    self, batch: Batch, old: OldModel, progress: Progress
  ) -> Outcome:
    """Classification plus the weighted contrasts."""
    del progress
    embeddings = self.encoder(batch.images, train=True)
    classification, metrics = self.classify(embeddings, batch.labels)
    new_unit = l2_normalize(self.compatible(embeddings))
    old_unit = l2_normalize(batch.old_embeddings)
    # As published, logits are cosines to the classifier's weights, and those
    # of old embeddings have no gradient.
    known = jnp.pad(
      old_unit, ((0, 0), (0, embeddings.shape[1] - old_unit.shape[1]))
    )
    old_logits = jax.lax.stop_gradient(self.classifier_cosines(known))
    units, logits, labels = self._enqueue(
      old_unit, old_logits, batch.labels, old.prepared[batch.rows]
    )
    filled = labels >= 0
    same = (batch.labels[:, None] == labels) & filled
    weights = same * (1 + similarities(old_unit, units)) / 2
    contrasts = [
      global_mean(
        neighbourhood_contrast(
          similarities(one, other) / self.temperature,
          weights,
          same,
          filled,
        ),
        same.any(axis=1),
        self.axis_name,
      )
      for one, other in (
        (new_unit, units),
        (self.classifier_cosines(embeddings), logits),
      )
    ]
    tie = (
      self.embedding_weight * contrasts[0] + self.logit_weight * contrasts[1]
    )
    return Outcome(
      classification + tie,
      embeddings,
      metrics
      | {
        'embedding_contrast': contrasts[0],
        'logit_contrast': contrasts[1],
        'queued': filled.mean(dtype=jnp.float32),
      },
    )

  def _enqueue(
    self,
    units: jax.Array,
    logits: jax.Array,
    labels: jax.Array,
    credible: jax.Array,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Puts the whole batch into the queue, over its oldest entries.

    A class of −1 marks a place that holds nothing credible.

    Returns:
      [queue, D_old] embeddings, [queue, C] logits and [queue] classes.
    """
    width, classes = units.shape[1], logits.shape[1]
    queues = [
      self.variable(MEMORY, 'embeddings', jnp.zeros, (self.queue, width)),
      self.variable(MEMORY, 'logits', jnp.zeros, (self.queue, classes)),
      self.variable(MEMORY, 'labels', jnp.full, (self.queue,), -1, jnp.int32),
    ]
    head = self.variable(MEMORY, 'head', jnp.zeros, (), jnp.int32)
    entries = [
      gather(entry, self.axis_name)
      for entry in (units, logits, jnp.where(credible, labels, -1))
    ]
    # Of a batch that is larger than the queue only the last entries stay.
    entries = [entry[-self.queue :] for entry in entries]
    count = len(entries[0])
    places = (head.value + jnp.arange(count)) % self.queue
    filled = [
      queue.value.at[places].set(entry)
      for queue, entry in zip(queues, entries, strict=True)
    ]
    if not self.is_initializing():
      for queue, value in zip(queues, filled, strict=True):
        queue.value = value
      head.value = (head.value + count) % self.queue
    return filled[0], filled[1], filled[2]


def neighbourhood_contrast(
  logits: jax.Array, weights: jax.Array, same: jax.Array, filled: jax.Array
) -> jax.Array:
  """The weighted mean of −log softmax over the neighbours of one class.

  Args:
    logits: [B, Q] similarities over the temperature.
    weights: [B, Q] of each neighbour, 0 for those of other classes.
    same: [B, Q] whether both are of one class.
    filled: [Q] which neighbours there are.

  Returns:
    [B]; 0 for a sample without a neighbour of its class.

  References:
    Wu et al., AAAI 2022.
  """
  log_softmax = jax.nn.log_softmax(jnp.where(filled, logits, -jnp.inf))
  # An empty place has a weight of 0 and a logarithm of −∞.
  terms = jnp.where(same, weights * jnp.where(same, log_softmax, 0), 0)
  return -terms.sum(axis=1) / jnp.maximum(same.sum(axis=1), 1)


def confident(logits: np.ndarray) -> np.ndarray:
  """Whether the entropy of a softmax is at most half of what it can be.

  Args:
    logits: [N, C].

  Returns:
    [N] bool.

  >>> confident(np.array([[9.0, 0, 0], [0.1, 0, 0]])).tolist()
  [True, False]
  """
  from scipy import special

  entropy = special.entr(special.softmax(logits, axis=1)).sum(axis=1)
  return entropy <= np.log(logits.shape[1]) / 2
