"""What is judged while an encoder trains: a small part of each benchmark."""

from collections.abc import Callable, Sequence
import functools
import pathlib

import ml_collections
import numpy as np

from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.data.images import ImageSet
from advbct_jax.data.pipeline import LoadBatch, make_loader
from advbct_jax.embeddings.extract import FrozenEncoder, embed_all
from advbct_jax.embeddings.sources import (
  find_rows,
  open_named_store,
  store_name,
)
from advbct_jax.retrieval.index import GalleryIndex, build_index
from advbct_jax.retrieval.parts import take_part
from advbct_jax.retrieval.protocols import measure, protocol_of
from advbct_jax.training.checkpoints import is_workdir
from advbct_jax.training.logging import Figures
from advbct_jax.training.run_stores import open_run


class Monitor:
  """Judges encoders on one small part of each retrieval set, in memory.

  Nothing is opened or decoded before the first encoder: an old encoder that is
  trained for this upgrade is not there earlier.
  """

  def __init__(
    self,
    retrieval_sets: Sequence[RetrievalSet],
    config: ml_collections.ConfigDict,
    old: pathlib.Path | None,
  ):
    """Draws the parts.

    Args:
      retrieval_sets: the whole ones.
      config: of the upgrade.
      old: the workdir of the old encoder, a store, or a folder of stores; None
        where there is none that can be judged.

    Raises:
      InputError: if a set has no query that counts.
    """
    queries = config.evaluation.part_queries
    self._parts = [take_part(one, queries) for one in retrieval_sets]
    self._config = config
    self._old = old

  def __call__(self, encoder: FrozenEncoder) -> Figures:
    """Judges an encoder.

    Args:
      encoder: of the config's image size.

    Returns:
      For each retrieval set `old`, `self` and `cross`, as `evaluate` gives
      them on the part, each {main metric: percent}; `self` alone where there
      is no old encoder.
    """
    figures = {}
    for part, loaders in zip(self._parts, self._loaders, strict=True):
      queries, gallery = (self._embed(encoder, load) for load in loaders)
      sides = {'self': _judge(_index(gallery), queries, part)}
      if self._old:
        old_index, old = self._old_sides[part.name]
        cross = _judge(old_index, queries, part)
        sides = {'old': old, **sides, 'cross': cross}
      figures[part.name] = sides
    return figures

  @functools.cached_property
  def _loaders(self) -> list[tuple[LoadBatch, LoadBatch]]:
    """Of the queries and the gallery of each part; in memory if they fit."""
    data = self._config.data

    def load(images: ImageSet) -> LoadBatch:
      return make_loader(
        images, data.image_size, data.memory_mib, data.resampling
      )

    return [(load(part.queries), load(part.gallery)) for part in self._parts]

  @functools.cached_property
  def _old_sides(self) -> dict[str, tuple[GalleryIndex, dict[str, float]]]:
    """The old encoder's gallery and figure of each part."""
    embed = self._open_old()
    sides = {}
    for part in self._parts:
      index = _index(embed(part.gallery))
      sides[part.name] = index, _judge(index, embed(part.queries), part)
    return sides

  def _open_old(self) -> Callable[[ImageSet], np.ndarray]:
    """What gives the old encoder's embeddings of images, [N, D]."""
    path = self._old
    assert path is not None
    if is_workdir(path):
      encoder, _ = open_run(
        path,
        batch_size=self._config.evaluation.batch_size,
        workers=self._config.data.workers,
        dtype=self._config.evaluation.dtype,
      )
      return lambda images: self._embed(encoder, encoder.make_loader(images))

    def read(images: ImageSet) -> np.ndarray:
      store = open_named_store(path, store_name(images), images.name)
      return store.read_rows(find_rows(store, images))

    return read

  def _embed(self, encoder: FrozenEncoder, load: LoadBatch) -> np.ndarray:
    return embed_all(
      encoder,
      load,
      batch_size=self._config.evaluation.batch_size,
      workers=self._config.data.workers,
    )


def _index(gallery: np.ndarray) -> GalleryIndex:
  count, dimension = gallery.shape
  return build_index(dimension, count, [gallery])


def _judge(
  index: GalleryIndex, queries: np.ndarray, part: RetrievalSet
) -> dict[str, float]:
  main_metric = protocol_of(part).main_metric
  return {main_metric: measure(index, queries, part)[main_metric]}
