"""What a program in Python does: embed, store, search, evaluate.

The commands do the same; `advbct_jax` itself has all of it by name.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import tempfile
from typing import Any

import numpy as np

from advbct_jax.convert.from_pytorch import import_weights
from advbct_jax.data.decoding import MAX_PIXELS
from advbct_jax.data.given_images import GivenImage, make_image_set
from advbct_jax.data.images import digest_ids
from advbct_jax.data.named_sets import (
  open_retrieval_sets,
  open_training_set,
)
from advbct_jax.embeddings.extract import FrozenEncoder, embed_all, extract
from advbct_jax.embeddings.store import Card, EmbeddingStore, write_store
from advbct_jax.errors import InputError
from advbct_jax.judge import judge, judge_matrix, judge_refresh
from advbct_jax.retrieval import index as indexing
from advbct_jax.retrieval.comparability import require_comparable
from advbct_jax.training import checkpoints
from advbct_jax.training.workdir import require_finished
from advbct_jax.weights.hub import is_address

Path = str | pathlib.Path


def load_encoder(
  path: Path,
  *,
  image_size: int | None = None,
  pooling: str | None = None,
  normalization: str | None = None,
  resampling: str | None = None,
  dtype: str = 'float32',
) -> FrozenEncoder:
  """Loads an encoder of a run, or of PyTorch.

  >>> import advbct_jax
  >>> advbct_jax.load_encoder('runs/demo').image_size
  16
  >>> advbct_jax.load_encoder('encoder.safetensors').module.dimension
  8

  Args:
    path: the workdir of a finished run, a file of weights (`.safetensors`, or
      `.pth` with torch), `hf://OWNER/REPO/FILE` or `package://NAME`.
    image_size: of a file without a card: side in pixels that images are
      squashed to; None for what the weights say, or what is usual for them.
    pooling: of a file without a card; None for what the weights say.
    normalization: of a file without a card: `imagenet`, `half` or
      `efficientnet_lite`; None for what is usual for such weights.
    resampling: of a file without a card: `bilinear` or `bicubic`; None for what
      is usual for such weights.
    dtype: what it shall compute in, `float32` or `bfloat16`; the vectors of the
      two don't belong in one store.

  Raises:
    InputError: if there is no encoder, or it cannot be used.
  """
  name = str(path)
  if not is_address(name) and not pathlib.Path(path).is_file():
    require_finished(pathlib.Path(path))
    return checkpoints.load_encoder(pathlib.Path(path), dtype)
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder, 'encoder')
    import_weights(
      name, workdir, image_size, pooling, normalization, resampling=resampling
    )
    return checkpoints.load_encoder(workdir, dtype)


def embed_images(
  encoder: FrozenEncoder,
  images: Sequence[GivenImage] | np.ndarray,
  *,
  upright: bool = True,
  batch_size: int = 256,
  workers: int = 0,
) -> np.ndarray:
  """Embeds images, as those of a store are embedded.

  >>> import advbct_jax
  >>> encoder = advbct_jax.load_encoder('runs/demo')
  >>> advbct_jax.embed_images(encoder, ['photo.jpg']).shape
  (1, 8)
  >>> from PIL import Image
  >>> photo = Image.open('photo.jpg')
  >>> advbct_jax.embed_images(encoder, [photo, np.asarray(photo)]).shape
  (2, 8)

  Args:
    encoder: from `load_encoder`.
    images: N paths, Pillow's images, or uint8 arrays [H, W, 3] of RGB or [H, W]
      of grey; or one array [N, H, W, 3].
    upright: whether images are turned by their EXIF orientation, as viewers
      do; the published sets are not.
    batch_size: images at a time, over all devices of this process.
    workers: processes that decode images; 0 takes threads.

  Returns:
    [N, D] float32, not normalised.

  Raises:
    InputError: if an image cannot be read.
  """
  if encoder.features:
    raise InputError(
      f'{encoder.name}: a head on {encoder.features.describe()}, which takes '
      'their vectors and no images; wanted an encoder of images, or '
      'encoder.module.apply(encoder.variables, vectors, train=False).'
    )
  image_set = make_image_set(images, upright=upright)
  return embed_all(
    encoder,
    encoder.loader(image_set),
    batch_size=batch_size,
    workers=workers,
  )


def fill_store(
  path: Path,
  encoder: FrozenEncoder,
  images: Sequence[GivenImage] | np.ndarray,
  ids: Sequence[str] | None = None,
  *,
  name: str | None = None,
  upright: bool = True,
  batch_size: int = 256,
  workers: int = 0,
) -> EmbeddingStore:
  """Embeds images into a store, or goes on where a killed call stopped.

  >>> import advbct_jax
  >>> encoder = advbct_jax.load_encoder('runs/demo')
  >>> store = advbct_jax.fill_store('gallery', encoder, ['photo.jpg'])
  >>> store.ids(), store.read().shape
  (['photo.jpg'], (1, 8))

  Args:
    path: the store's folder.
    encoder: from `load_encoder`.
    images: N images, as `embed_images` takes them.
    ids: [N] what they are called; None takes their paths, or numbers.
    name: of the image set; None takes that of the store's folder.
    upright: whether images are turned by their EXIF orientation.
    batch_size: images at a time, over all devices of all processes.
    workers: processes that decode images; 0 takes threads.

  Returns:
    The complete store.

  Raises:
    InputError: if an image cannot be read, or the folder holds the store of
      another encoder or of other images.
  """
  image_set = make_image_set(
    images, name or pathlib.Path(path).name, ids, upright
  )
  return extract(
    encoder,
    image_set,
    pathlib.Path(path),
    batch_size=batch_size,
    workers=workers,
  )


def make_store(
  path: Path,
  vectors: np.ndarray,
  ids: Sequence[str],
  encoder: str,
  *,
  version: str = 'unversioned',
  labels: Sequence[str] | None = None,
  name: str | None = None,
) -> EmbeddingStore:
  """Makes a store of vectors that any encoder has made.

  >>> import advbct_jax
  >>> vectors = np.eye(3, dtype=np.float32)
  >>> store = advbct_jax.make_store('old', vectors, ['a', 'b', 'c'], 'ours')
  >>> store.card.encoder, store.card.count, store.card.dimension
  ('ours', 3, 3)

  Args:
    path: the store's folder.
    vectors: [N, D] finite numbers.
    ids: [N] what their images are called.
    encoder: what has made them.
    version: of the encoder's weights: vectors of two versions don't compare.
    labels: [N] the classes under which the encoder was trained on the images,
      '' for none; None where nobody knows.
    name: of the image set; None takes that of the store's folder.

  Returns:
    The complete store.

  Raises:
    InputError: if vectors, ids and labels don't go together, a vector is not
      finite, or the folder holds another store.
  """
  vectors = np.asarray(vectors)
  lengths = {len(vectors), len(ids), len(ids if labels is None else labels)}
  if vectors.ndim != 2 or len(lengths) > 1 or len(set(ids)) != len(ids):
    raise InputError(
      f'{path}: found vectors of the shape {list(vectors.shape)}, {len(ids)} '
      f'ids, {len(set(ids))} of them different, and '
      f'{"no" if labels is None else len(labels)} labels; wanted vectors '
      '[N, D], N ids of their own, and N labels or none.'
    )
  card = Card(
    encoder=encoder,
    weights=version,
    dimension=vectors.shape[1],
    preprocessing='unknown',
    images=name or pathlib.Path(path).name,
    ids_digest=digest_ids(ids),
    count=len(ids),
    labels_digest=None if labels is None else digest_ids(labels),
  )
  return write_store(path, card, ids, vectors.astype(np.float32), labels)


@dataclasses.dataclass(frozen=True)
class Matches:
  """What a search has found.

  >>> import advbct_jax
  >>> matches = advbct_jax.Index(np.eye(3)).search(np.eye(3)[:2], k=1)
  >>> matches.positions.tolist(), matches.scores.tolist()
  ([[0], [1]], [[1.0], [1.0]])

  Attributes:
    scores: [Q, k] float32 cosine similarities, descending.
    positions: [Q, k] int32 positions in the gallery.
    ids: [Q] lists of k ids of the gallery's images; None where it has none.
  """

  scores: np.ndarray
  positions: np.ndarray
  ids: list[list[str]] | None


class Index:
  """Exact search by cosine similarity.

  >>> import advbct_jax
  >>> store = advbct_jax.make_store('old', np.eye(2), ['cat', 'dog'], 'ours')
  >>> index = advbct_jax.Index(store)
  >>> index.search(np.array([[1.0, 0.5]]), k=2).ids
  [['cat', 'dog']]

  Attributes:
    ids: [N] of the gallery's images; None where it has none.
  """

  def __init__(
    self,
    gallery: EmbeddingStore | np.ndarray,
    ids: Sequence[str] | None = None,
  ):
    """Reads a gallery into memory.

    Args:
      gallery: a complete store, or [N, D] vectors of any length.
      ids: [N] of the images of an array.

    Raises:
      InputError: if there is another number of ids than of vectors.
    """
    self._store: EmbeddingStore | None = None
    if isinstance(gallery, EmbeddingStore):
      self._store = gallery
      count, dimension = gallery.card.count, gallery.card.dimension
      chunks = gallery.chunks()
      ids = gallery.ids()
    else:
      gallery = np.asarray(gallery, np.float32)
      count, dimension = gallery.shape
      chunks = iter([gallery])
    if ids is not None and len(ids) != count:
      raise InputError(f'ids: found {len(ids)} of {count} vectors.')
    self.ids = ids
    self._index = indexing.build_index(dimension, count, chunks)

  def __len__(self) -> int:
    return self._index.ntotal

  def search(
    self, queries: EmbeddingStore | np.ndarray, k: int = 10
  ) -> Matches:
    """Finds the images that are most like each query.

    Args:
      queries: [Q, D] vectors of any length, or a complete store. Of a wider
        encoder's store the part is taken that compares with the gallery.
      k: how many to find, or all where there are fewer.

    Raises:
      InputError: if the widths differ, or vectors are not finite.
    """
    if isinstance(queries, EmbeddingStore):
      vectors = queries.read()
      if self._store and vectors.shape[1] != self._store.card.dimension:
        require_comparable(queries, self._store)
        vectors = vectors[:, : queries.card.compatible_dimension]
    else:
      vectors = np.asarray(queries, np.float32)
    scores, positions = indexing.search(self._index, vectors, min(k, len(self)))
    ids = None
    if self.ids is not None:
      ids = [[self.ids[at] for at in row] for row in positions]
    return Matches(scores, positions, ids)


def evaluate(
  new: Path,
  data: Sequence[str],
  workdir: Path,
  *,
  old: Path | None = None,
  independent: Path | None = None,
  adapter: Path | None = None,
  side: Path | None = None,
  data_root: Path | None = None,
  crop_queries: bool = True,
  max_pixels: int = MAX_PIXELS,
  batch_size: int = 256,
  workers: int = 0,
  dtype: str = 'float32',
) -> dict[str, Any]:
  """Judges encoders, as `advbct evaluate` does.

  >>> import advbct_jax
  >>> results = advbct_jax.evaluate(
  ...   'runs/demo', ['tiny:data'], 'judged', old='runs/demo/old'
  ... )
  >>> sorted(results['datasets']['tiny'])
  ['cross', 'old', 'refresh', 'self']
  >>> results['datasets']['tiny']['self']['private/map@100']
  100.0

  Args:
    new: the encoder to upgrade to: the workdir of a run, a store, or a folder
      of stores.
    data: sets, `NAME` or `NAME:ROOT`.
    workdir: gets `results.json`, `report.md` and the indexes.
    old: the encoder that filled the index.
    independent: the new model trained without any tie; gives the scores.
    adapter: the folder of one, which maps the new encoder's vectors where they
      are compared with old ones.
    side: the encoder of the side vectors that the adapter was fitted with.
    data_root: where each `NAME` lies.
    crop_queries: whether queries that have boxes are cropped to them.
    max_pixels: how many pixels an image may have.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoders of runs compute in, `float32` or `bfloat16`.

  Returns:
    What `results.json` holds.

  Raises:
    InputError: if an encoder, a set or the adapter cannot be used, or they
      don't belong together.
  """
  return judge(
    {'old': old, 'new': new, 'independent': independent, 'side': side},
    open_retrieval_sets(data, str(data_root or ''), crop_queries, max_pixels),
    pathlib.Path(workdir),
    batch_size=batch_size,
    workers=workers,
    dtype=dtype,
    adapter=adapter,
  )


def evaluate_matrix(
  encoders: Sequence[Path],
  data: Sequence[str],
  workdir: Path,
  *,
  data_root: Path | None = None,
  crop_queries: bool = True,
  max_pixels: int = MAX_PIXELS,
  batch_size: int = 256,
  workers: int = 0,
  dtype: str = 'float32',
) -> dict[str, Any]:
  """Searches the gallery of each encoder with the queries of each.

  >>> import advbct_jax
  >>> results = advbct_jax.evaluate_matrix(
  ...   ['runs/demo/old', 'runs/demo'], ['tiny:data'], 'judged'
  ... )
  >>> results['names'], np.shape(
  ...   results['datasets']['tiny']['matrices']['private/map@100']
  ... )
  (['old', 'demo'], (2, 2))

  Args:
    encoders: at least two, as for `evaluate`, a wider one after a narrower one;
      the last parts of their paths are their names.
    data: sets, `NAME` or `NAME:ROOT`.
    workdir: gets `matrix.json`, `matrix.md` and a picture for each set.
    data_root: where each `NAME` lies.
    crop_queries: whether queries that have boxes are cropped to them.
    max_pixels: how many pixels an image may have.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoders of runs compute in, `float32` or `bfloat16`.

  Returns:
    What `matrix.json` holds: for each set, by metric, [T, T] percent, queries
    down and galleries across.

  Raises:
    InputError: if an encoder or a set cannot be used, two encoders have one
      name, or they don't belong together.
  """
  return judge_matrix(
    encoders,
    open_retrieval_sets(data, str(data_root or ''), crop_queries, max_pixels),
    pathlib.Path(workdir),
    batch_size=batch_size,
    workers=workers,
    dtype=dtype,
  )


def evaluate_refresh(
  new: Path,
  old: Path,
  data: Sequence[str],
  workdir: Path,
  policies: Sequence[str] = ('auto', 'auto_new'),
  orders: Sequence[str] = ('random',),
  *,
  data_root: Path | None = None,
  crop_queries: bool = True,
  max_pixels: int = MAX_PIXELS,
  batch_size: int = 256,
  workers: int = 0,
  dtype: str = 'float32',
) -> dict[str, Any]:
  """Measures refresh policies, as `advbct evaluate --refresh` does.

  >>> import advbct_jax
  >>> results = advbct_jax.evaluate_refresh(
  ...   'runs/demo', 'runs/demo/old', ['tiny:data'], 'judged', ['fixed']
  ... )
  >>> curve = results['tiny']['curves'][0]
  >>> curve['mean'][-1] == results['tiny']['self']
  True

  Args:
    new: the encoder to upgrade to: the workdir of a run, a store, a folder of
      stores, or files of vectors.
    old: the encoder that filled the index.
    data: sets, `NAME` or `NAME:ROOT`; training things that lie beside one are
      known in both spaces before the refresh begins.
    workdir: gets `refresh_policies.json`, `.md` and `.png`.
    policies: names of policies; see `advbct_jax.refresh.policies`.
    orders: names of orders of re-embedding; see `advbct_jax.refresh.orders`.
    data_root: where each `NAME` lies.
    crop_queries: whether queries that have boxes are cropped to them.
    max_pixels: how many pixels an image may have.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoders of runs compute in, `float32` or `bfloat16`.

  Returns:
    For each set what `refresh.curve.measure_curves` gives.

  Raises:
    InputError: if an encoder, a set or a name cannot be used, or the encoders
      don't belong together.
  """
  root = str(data_root or '')
  return judge_refresh(
    {'old': old, 'new': new},
    open_retrieval_sets(data, root, crop_queries, max_pixels),
    [open_training_set(spec, root) for spec in data],
    pathlib.Path(workdir),
    policies,
    orders,
    batch_size=batch_size,
    workers=workers,
    dtype=dtype,
  )
