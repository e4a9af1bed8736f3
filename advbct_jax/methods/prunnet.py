"""PrunNet: nested subnetworks of one encoder, trained together.

Each weight w of the backbone's kernels has a score s. The subnetwork of
capacity c has the c% of each kernel with the largest |s|
(`models/subnetworks.py`), the whole network all of it. All classify by the
whole network's classifier W, and the losses are

  L_c = −log softmax(W·f_c)_y,  c = 20, 40, 60, 80, 100%.

The gradients of w and s under the five losses are made one. Within a kernel,
g_i loses its part along each g_j that opposes it; the results p_i are weighted
by how much is left of them:

  5·Σ a_i·p_i / Σ a_i,  a_i = ((cos(p_i, g_i) + 1)/2)^½.

Conflicts are looked for in each output channel of a convolution and in a dense
layer as a whole, the weights a_i are of the whole kernel. All else (classifier,
BatchNorm's scales, biases, the embedding layer) learns from the whole network
alone: the subnetworks are drawn to it, not it to them. So any of the encoders
can search the gallery of any other.

Sun et al., "Learning compatible multi-prize subnetworks for asymmetric
retrieval", CVPR 2025, arXiv 2504.11879. As in the published code, with the
options of its commands. Its projection begins anew for each conflict, so that
the last one in a random order alone counts; `projection='pcgrad'` goes on from
what is left (Yu et al., NeurIPS 2020). Two things differ. There, BatchNorm's
running statistics of a subnetwork are taken after the training from another
pass over images; here they are kept during it, of each by itself. And gradients
are not clipped (there, at a norm of 100).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp

from advbct_jax.errors import InputError
from advbct_jax.methods.conflicts import (
  project_conflicts,
  share,
  weigh_by_agreement,
)
from advbct_jax.methods.method import (
  Batch,
  Method,
  Metrics,
  OldModel,
  Outcome,
  Progress,
  similarities,
)
from advbct_jax.models.subnetworks import (
  WHOLE,
  Kernels,
  draw_scores,
  prune,
  put_kernels,
  take_kernels,
  thresholds,
)

PROJECTIONS = ('published', 'pcgrad')


def statistics_name(capacity: float) -> str:
  """What the running statistics of a subnetwork are called in a state."""
  return f'subnetwork_{capacity:g}'


class PrunNet(Method):
  """Classification by an encoder and by nested parts of it.

  Attributes:
    capacities: of the subnetworks and of the whole network, in percent.
    projection: `published`, where of all conflicts of a gradient the last one
      counts, or `pcgrad`, where each does.
    exponent: of the weights of projected gradients; 0 gives their plain sum.
  """

  label: ClassVar[str] = 'PrunNet'
  color: ClassVar[str] = '#F0E442'
  needs_old_model: ClassVar[bool] = False
  needs_whole_classes: ClassVar[str] = (
    'its subnetworks take the whole classifier'
  )

  capacities: tuple[float, ...] = (20, 40, 60, 80, 100)
  projection: str = 'published'
  exponent: float = 0.5

  @nn.compact
  def __call__(
    self, batch: Batch, old: OldModel | None, progress: Progress
  ) -> Outcome:
    """The sum of all losses; its gradient is what they combine to."""
    del old, progress
    self._require_options()
    if self.is_initializing():
      self.classifier(self.encoder(batch.images, train=True))
    encoder, variables = self.encoder.unbind()
    params = variables.get('params', {})
    kernels = take_kernels(params)
    if not kernels:
      raise InputError(
        f'{self.label}: the backbone of this encoder has no kernels, of which '
        'subnetworks could have a part; wanted: another '
        'config.model.architecture.'
      )
    scores = traverse_util.flatten_dict(
      self.param('scores', draw_scores, kernels)
    )
    least = {
      path: thresholds(one, self.capacities) for path, one in scores.items()
    }
    copies = share(
      (kernels, scores),
      len(self.capacities),
      self._combine,
      self._draw_orders(batch.key, (kernels, scores)),
    )
    total, metrics = jnp.zeros(()), {}
    for number, capacity in enumerate(self.capacities):
      own_kernels, own_scores = copies[number]
      pruned = {
        path: prune(kernel, own_scores[path], least[path][number])
        for path, kernel in own_kernels.items()
      }
      whole = capacity == WHOLE
      rest = params if whole else jax.lax.stop_gradient(params)
      embeddings, updated = encoder.apply(
        {
          'params': put_kernels(rest, pruned),
          'batch_stats': self._statistics(capacity),
        },
        batch.images,
        train=True,
        mutable=['batch_stats'],
      )
      self._keep_statistics(capacity, updated.get('batch_stats', {}))
      loss, logged = self._classify(embeddings, batch.labels, whole)
      total += loss
      metrics[f'loss_{capacity:g}'] = loss
    # Of the whole network, which is the last.
    return Outcome(total, embeddings, metrics | logged)

  def _statistics(self, capacity: float) -> Mapping[str, Any]:
    """BatchNorm's running statistics; those of the whole are the encoder's."""
    of_whole = self.encoder.variables.get('batch_stats', {})
    if capacity == WHOLE or not of_whole:
      return of_whole
    name = statistics_name(capacity)
    return self.variable('batch_stats', name, lambda: of_whole).value

  def _keep_statistics(
    self, capacity: float, statistics: Mapping[str, Any]
  ) -> None:
    if self.is_initializing() or not statistics:
      return
    if capacity != WHOLE:
      name = statistics_name(capacity)
      self.put_variable('batch_stats', name, statistics)
      return
    for name, value in statistics.items():
      self.encoder.put_variable('batch_stats', name, value)

  def _classify(
    self, embeddings: jax.Array, labels: jax.Array, whole: bool
  ) -> tuple[jax.Array, Metrics]:
    """As `classify`; subnetworks leave the classifier as it is."""
    if whole:
      return self.classify(embeddings, labels)
    kernel = jax.lax.stop_gradient(self.classifier_kernel())
    return self.cross_entropy(similarities(embeddings, kernel.T), labels)

  def _draw_orders(self, key: jax.Array, parameters: Any) -> Any:
    """A permutation of the losses for each array, the same on all devices."""
    leaves, structure = jax.tree.flatten(parameters)
    numbers = jnp.arange(len(leaves))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    orders = jax.vmap(jax.random.permutation, (0, None))(
      keys, len(self.capacities)
    )
    return jax.tree.unflatten(structure, list(orders))

  def _combine(
    self, stacked: tuple[Kernels, Kernels], orders: tuple[Kernels, Kernels]
  ) -> tuple[Kernels, Kernels]:
    """One gradient of those of all losses, [L, …] a leaf."""
    if self.axis_name is not None:
      # Conflicts are those of the whole batch's gradients.
      stacked = jax.lax.pmean(stacked, self.axis_name)
    return jax.tree.map(self._combine_leaf, stacked, orders)

  def _combine_leaf(self, gradients: jax.Array, order: jax.Array) -> jax.Array:
    convolution = gradients.ndim == 5  # [L, H, W, inputs, outputs]
    groups = gradients.shape[-1] if convolution else 1
    flat = gradients.reshape(len(gradients), -1, groups)
    projected = project_conflicts(
      flat, order, going_on=self.projection == 'pcgrad'
    )
    return weigh_by_agreement(projected, flat, self.exponent).reshape(
      gradients.shape[1:]
    )

  def _require_options(self) -> None:
    _require_capacities(self.capacities)
    if self.projection not in PROJECTIONS:
      raise InputError(
        f'config.prunnet.projection is {self.projection!r}; wanted: one of '
        f'{", ".join(PROJECTIONS)}.'
      )
    if not self.exponent >= 0:
      raise InputError(
        f'config.prunnet.exponent is {self.exponent}; wanted: 0 or more.'
      )


def _require_capacities(capacities: Sequence[float]) -> None:
  ascending = capacities and sorted(set(capacities)) == list(capacities)
  if not ascending or min(capacities) <= 0 or capacities[-1] != WHOLE:
    raise InputError(
      f'config.prunnet.capacities is {tuple(capacities)}; wanted: percentages '
      f'above 0, each more than the one before it, {WHOLE} as the last, such '
      'as (20, 40, 60, 80, 100).'
    )
