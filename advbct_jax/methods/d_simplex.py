"""d-Simplex (CoReS): a classifier that is fixed, the same for old and new.

Class c has the vertex v_c of a regular simplex with K vertices, in K − 1
dimensions. The loss of a sample is −log softmax(V·f)_c over all K vertices, so
that those of classes to come are kept free. Two encoders that were trained so
are drawn to the same directions, and with that they are compatible: none of
them has to know the other.

With b = (1 − √K)/(K − 1) the vertices are the unit vectors e_1 … e_{K−1} and
(b, …, b), less their mean and brought to length 1.

Biondi et al., "CoReS: compatible representations via stationarity", TPAMI 2023,
arXiv 2111.07632. As in the published code, embeddings are not normalised in
training. There K is the 100 of CIFAR-100, of which the old model saw a part;
the default is what the same authors reserve later, in HOC. Classes have their
vertices in a fixed order there; here it is that of all labels of the data set,
sorted, and so doesn't depend on which of them are old.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from advbct_jax.errors import InputError
from advbct_jax.methods.method import (
  Batch,
  Method,
  Metrics,
  OldModel,
  Outcome,
  Progress,
)


class DSimplex(Method):
  """Classification by the vertices of a simplex, without any other tie.

  Attributes:
    vertices: K, more than there will ever be classes. Embeddings have K − 1
      components.
  """

  label: ClassVar[str] = 'd-Simplex'
  color: ClassVar[str] = '#7B3294'
  needs_old_model: ClassVar[bool] = False
  old_methods: ClassVar[tuple[str, ...]] = ('d_simplex', 'hoc')
  needs_whole_classes: ClassVar[str] = (
    'its classifier is fixed and takes no memory'
  )

  vertices: int = 1024

  def __call__(
    self, batch: Batch, old: OldModel | None, progress: Progress
  ) -> Outcome:
    """The mean cross-entropy over all vertices."""
    del old, progress
    embeddings = self.encoder(batch.images, train=True)
    loss, metrics = self.classify_by_vertices(embeddings, batch.labels)
    return Outcome(loss, embeddings, metrics)

  def classify_by_vertices(
    self, embeddings: jax.Array, labels: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Classification by the fixed classifier.

    Args:
      embeddings: [B, K − 1], not normalised.
      labels: [B] classes.

    Returns:
      As `classify`.

    Raises:
      InputError: if embeddings have another width, or there are too few
        vertices.
    """
    self._require_fit(embeddings.shape[1])
    vertex = jnp.asarray(self._vertex_of_class())
    return self.cross_entropy(vertex_scores(embeddings), vertex[labels])

  def _vertex_of_class(self) -> np.ndarray:
    return np.arange(self.classes) if self.places is None else self.places

  def _require_fit(self, width: int) -> None:
    compatible = self.compatible_dimension or width
    if compatible != width or width != self.vertices - 1:
      raise InputError(
        f'{self.label}: its option vertices is {self.vertices}, while '
        f'config.model.dimension is {width} and the compatible part of an '
        f'embedding has {compatible} components; wanted: a dimension of one '
        'less than the vertices, all of it compatible, for old and new alike.'
      )
    last = self._vertex_of_class().max()
    if last >= self.vertices:
      raise InputError(
        f'{self.label}: its option vertices is {self.vertices}, but the data '
        f'set has at least {last + 1} classes; wanted: more vertices than '
        'there will ever be classes, and a config.model.dimension of one less.'
      )


def vertex_scores(embeddings: jax.Array) -> jax.Array:
  """Dot products with the vertices of a regular simplex, of length 1.

  Args:
    embeddings: [B, K − 1].

  Returns:
    [B, K].

  References:
    Biondi et al., TPAMI 2023.

  >>> [round(float(score), 4) for score in vertex_scores(jnp.eye(2))[0]]
  [0.9659, -0.2588, -0.7071]
  """
  width = embeddings.shape[1]
  count = width + 1
  # Of unit vectors, one more point and their mean, which is as simple, no
  # matrix has to be multiplied with.
  last = (1 - np.sqrt(count)) / width
  mean = (1 + last) / count
  length = np.sqrt(width / count)
  total = embeddings.sum(axis=1, keepdims=True)
  points = jnp.concatenate([embeddings, last * total], axis=1)
  return (points - mean * total) / length
