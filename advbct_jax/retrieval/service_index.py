"""FAISS indexes for a service, and what their speed and size cost in recall.

Four kinds, all for cosine similarity: inner products of L2-normalised vectors.

    flat        every vector, compared with every query: exact
    ivf_flat    every vector, in lists; a query probes the nearest lists
    ivf_pq      the same lists, of product-quantised vectors: a few bytes each
    hnsw        every vector, in a graph of neighbours

They are built from an embedding store block by block, so that memory holds the
index, the sample that it is trained on, and one chunk of the store.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import math
from typing import Any

import faiss
import numpy as np
import tqdm

from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.retrieval.index import GalleryIndex

# What each kind can be told.
OPTIONS = {
  'flat': (),
  'ivf_flat': ('lists', 'probes'),
  'ivf_pq': ('lists', 'probes', 'bytes'),
  'hnsw': ('neighbors',),
}

# FAISS wants 39 training vectors a centroid or more, and its k-means runs for
# 25 rounds. A byte of a product quantiser has 256 centroids.
_MIN_PER_LIST = 39
_PER_LIST = 64
_ROUNDS = 25
_PQ_CENTROIDS = 256
_PQ_SAMPLE = 256 * _PQ_CENTROIDS

# The part of the lists that a query probes unless told.
_PROBED_SHARE = 1 / 16
# Candidates held while an HNSW graph is built and searched. FAISS's own 40 and
# 16 are too few to bring back a hundred good neighbours.
_EF_CONSTRUCTION = 100
_EF_SEARCH = 128

# Rows added between two steps of the progress bar.
_BLOCK_ROWS = 16384


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Which index to build; what is None is chosen by the size of the store.

  Attributes:
    kind: one of `OPTIONS`.
    lists: inverted lists; 4·√N, but none with fewer than 39 vectors to train
      on.
    probes: lists that a query looks into; a sixteenth of them.
    bytes: of a product-quantised vector, a divisor of its width D; the one
      nearest to D/8.
    neighbors: of a vector in the graph's upper layers, with twice as many in
      the lowest one; 32.
  """

  kind: str
  lists: int | None = None
  probes: int | None = None
  bytes: int | None = None
  neighbors: int | None = None

  def options(self) -> dict[str, int]:
    """What is set, by name."""
    return {
      name: value
      for name, value in dataclasses.asdict(self).items()
      if name != 'kind' and value is not None
    }

  @property
  def factory(self) -> str:
    """The name that `faiss.index_factory` has for a complete recipe.

    >>> Recipe('ivf_pq', lists=100, probes=6, bytes=16).factory
    'IDMap2,IVF100,PQ16x8np'
    """
    # `np` leaves out an ordering of the codes that takes longer to find than
    # all else and serves only searches by Hamming distance ("polysemous").
    inner = {
      'flat': 'Flat',
      'ivf_flat': f'IVF{self.lists},Flat',
      'ivf_pq': f'IVF{self.lists},PQ{self.bytes}x8np',
      'hnsw': f'HNSW{self.neighbors},Flat',
    }
    return f'IDMap2,{inner[self.kind]}'


def complete_recipe(recipe: Recipe, count: int, dimension: int) -> Recipe:
  """Chooses what was left open, and refuses what cannot be built.

  >>> complete_recipe(Recipe('ivf_pq'), 1_000_000, 128)
  Recipe(kind='ivf_pq', lists=4000, probes=250, bytes=16, neighbors=None)

  Args:
    recipe: what was asked for.
    count: vectors N to come.
    dimension: their width D.

  Raises:
    InputError: if an option does not belong to the kind, is out of range, or if
      there are too few vectors.
  """
  _require_own_options(recipe)
  if count < 1:
    raise InputError('found no vectors in the store; wanted one or more.')
  if recipe.kind == 'flat':
    return recipe
  if recipe.kind == 'hnsw':
    # One neighbour makes no layers: a layer has 1/M of those of the one below.
    _require_range('neighbors', recipe.neighbors, 2, count)
    return dataclasses.replace(recipe, neighbors=recipe.neighbors or 32)
  if recipe.kind == 'ivf_pq' and count < _PQ_CENTROIDS:
    raise InputError(
      f'--kind=ivf_pq: found {count} vectors; a product quantiser has '
      f'{_PQ_CENTROIDS} centroids a byte and needs as many vectors to train '
      'on. Take --kind=flat.'
    )
  most = max(count // _MIN_PER_LIST, 1)
  _require_range('lists', recipe.lists, 1, most)
  lists = recipe.lists or min(round(4 * math.sqrt(count)), most)
  _require_range('probes', recipe.probes, 1, lists)
  probes = recipe.probes or max(int(lists * _PROBED_SHARE), 1)
  recipe = dataclasses.replace(recipe, lists=lists, probes=probes)
  if recipe.kind == 'ivf_flat':
    return recipe
  return dataclasses.replace(recipe, bytes=_code_bytes(recipe, dimension))


def integer_ids(ids: Sequence[str]) -> np.ndarray:
  """The ids of a store as FAISS's own.

  Args:
    ids: [N] decimal integers.

  Returns:
    [N] int64.

  Raises:
    InputError: if one is no integer, is out of range, is spelt so that two ids
      could be one number, comes twice, or is −1, FAISS's word for no match.
  """
  limits = np.iinfo(np.int64)
  numbers = np.empty(len(ids), np.int64)
  for row, name in enumerate(ids):
    try:
      number = int(name)
      usable = str(number) == name and limits.min <= number <= limits.max
    except ValueError:
      usable = False
    if not usable or number == -1:
      raise InputError(
        f'--integer_ids: found the id {name!r} in row {row}; wanted an integer '
        'of 64 bits without leading zeros, and not -1, which is how FAISS says '
        'that there is no match. Leave --integer_ids out; FAISS then gives '
        'lines of the .ids.txt file.'
      )
    numbers[row] = number
  unique, seen = np.unique(numbers, return_counts=True)
  if len(unique) < len(numbers):
    raise InputError(
      f'--integer_ids: found the id {unique[seen.argmax()]} more than once; '
      'wanted each once. Leave --integer_ids out; FAISS then gives lines of '
      'the .ids.txt file.'
    )
  return numbers


def build_service_index(
  store: EmbeddingStore,
  recipe: Recipe,
  ids: np.ndarray,
  seed: int = 0,
  width: int | None = None,
) -> GalleryIndex:
  """Trains an index on a sample of a store and adds all of it.

  Args:
    store: N embeddings.
    recipe: from `complete_recipe`.
    ids: [N] int64, what FAISS shall call each row.
    seed: chooses the sample and where k-means starts.
    width: how many of the first components are indexed; None for all.

  Returns:
    The index; it knows how many lists or candidates a search looks into.
  """
  card = store.card
  # A base class by its type; what it is, the recipe says.
  index: Any = faiss.index_factory(
    width or card.dimension, recipe.factory, faiss.METRIC_INNER_PRODUCT
  )
  inner: Any = faiss.downcast_index(index.index)
  if recipe.lists:
    inner.nprobe = recipe.probes
    size = _training_size(recipe.lists, recipe.bytes)
    _, sample = sample_rows(store, size, seed, width)
    _train(inner, sample, seed)
    _reserve_lists(inner, sample, card.count)
    del sample
  elif recipe.neighbors:
    inner.hnsw.efConstruction = _EF_CONSTRUCTION
    inner.hnsw.efSearch = _EF_SEARCH
    # 2·M a vector in the lowest layer; the others have M/(M − 1) by chance, so
    # room is for twice as many.
    M = recipe.neighbors
    _reserve(inner.hnsw.neighbors, int(card.count * (2 * M + 2 * M / (M - 1))))
    flat: Any = faiss.downcast_index(inner.storage)
    _reserve(flat.codes, card.count * flat.code_size)
  else:
    _reserve(inner.codes, card.count * inner.code_size)
  for start, rows in read_blocks(store, 'adding vectors', _BLOCK_ROWS, width):
    index.add_with_ids(rows, ids[start : start + len(rows)])
  return index


def _require_own_options(recipe: Recipe) -> None:
  for name in recipe.options():
    if name not in OPTIONS[recipe.kind]:
      kinds = ' and '.join(kind for kind in OPTIONS if name in OPTIONS[kind])
      raise InputError(
        f'--{name}: belongs to {kinds}, found --kind={recipe.kind}. Leave it '
        'out or choose another kind.'
      )


def _require_range(name: str, value: int | None, least: int, most: int) -> None:
  if value is not None and not least <= value <= most:
    reason = f' ({_MIN_PER_LIST} vectors a list)' if name == 'lists' else ''
    raise InputError(
      f'--{name}: found {value}, wanted {least} to {most}{reason}. Leave it '
      'out to have it chosen.'
    )


def _code_bytes(recipe: Recipe, dimension: int) -> int:
  divisors = [n for n in range(1, dimension + 1) if dimension % n == 0]
  if recipe.bytes is None:
    # Nearest as a ratio: twice as many is as far away as half as many.
    return min(divisors, key=lambda n: abs(math.log(8 * n / dimension)))
  if recipe.bytes not in divisors:
    raise InputError(
      f'--bytes: found {recipe.bytes}, wanted a divisor of the width '
      f'{dimension}, since each byte stands for as many components: '
      f'{", ".join(map(str, divisors))}.'
    )
  return recipe.bytes


def _training_size(lists: int, code_bytes: int | None) -> int:
  """How many vectors k-means needs."""
  size = _PER_LIST * lists
  return max(size, _PQ_SAMPLE) if code_bytes else size


def _train(inverted: faiss.IndexIVF, sample: np.ndarray, seed: int) -> None:
  """Finds the lists' centroids and, where there is one, the quantiser's."""
  clustering = faiss.Clustering(inverted.d, inverted.nlist, inverted.cp)
  clustering.seed = seed
  # A round at a time, each from where the last one ended, for the progress bar
  # and for Ctrl-C.
  clustering.niter = 1
  for _ in tqdm.trange(_ROUNDS, desc='training', unit=' rounds'):
    clustering.train(sample, inverted.quantizer)
  inverted.train(sample)


def _reserve_lists(inverted: Any, sample: np.ndarray, count: int) -> None:
  """Takes the memory of N vectors, shared among the lists as the sample is."""
  _, nearest = inverted.quantizer.search(sample, 1)
  sizes = np.bincount(nearest[:, 0], minlength=inverted.nlist)
  # Two deviations more than expected, so that few lists outgrow it.
  rooms = count / len(sample) * (sizes + 2 * np.sqrt(sizes))
  for number, room in enumerate(rooms.astype(int).tolist()):
    inverted.invlists.resize(number, room)
    inverted.invlists.resize(number, 0)


def _reserve(vector: Any, size: int) -> None:
  """Takes memory once; a vector that grows is there twice for a moment."""
  vector.resize(size)
  vector.clear()


def read_blocks(
  store: EmbeddingStore, what: str, size: int, width: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
  """Reads a store in blocks.

  Args:
    store: N embeddings.
    what: is being done, for the progress bar.
    size: rows in a block, at most.
    width: how many of the first components are read; None for all.

  Yields:
    The position of a block's first row, and the [≤ size, D] rows of length 1.
  """
  start = 0
  with tqdm.tqdm(
    desc=what, total=store.card.count, unit=' vectors', unit_scale=True
  ) as progress:
    for chunk in store.chunks():
      for first in range(0, len(chunk), size):
        rows = chunk[first : first + size, :width]
        rows = unit_rows(np.asarray(rows, np.float32))
        yield start, rows
        start += len(rows)
        progress.update(len(rows))


def sample_rows(
  store: EmbeddingStore, size: int, seed: int, width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Draws [≤ size] ascending positions, and their vectors of length 1."""
  card = store.card
  positions = np.arange(card.count)
  if size < card.count:
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.choice(card.count, size, replace=False))
  sample = np.empty((len(positions), width or card.dimension), np.float32)
  for start, rows in read_blocks(store, 'reading a sample', _BLOCK_ROWS, width):
    low, high = np.searchsorted(positions, (start, start + len(rows)))
    sample[low:high] = rows[positions[low:high] - start]
  return positions, sample
