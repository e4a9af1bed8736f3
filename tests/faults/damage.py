"""Files that are cut short or have a flipped bit, and whether that is noticed.

What a reader says of a thing whose file is damaged is either refused (noticed),
the same as before (the bit meant nothing), or something else: unnoticed.
"""

from collections.abc import Callable
import dataclasses
import hashlib
import pathlib
import random
import tempfile
from typing import Any

import jax
import numpy as np

from advbct_jax.adapters.adapter import load_adapter
from advbct_jax.convert.stores import vectors_to_store
from advbct_jax.data.named_sets import find_data, open_image_sets
from advbct_jax.embeddings.store import open_store
from advbct_jax.errors import InputError
from advbct_jax.retrieval.index import read_index
from advbct_jax.training.checkpoints import load_encoder, load_trained
from advbct_jax.weights.files import read_tensors


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of file.

  Attributes:
    name: what it is called in tables.
    files: a pattern below the working directory.
    read: reads what the file is part of, and gives arrays or texts.
  """

  name: str
  files: str
  read: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Damage:
  """What was done to a file, and what came of it.

  Attributes:
    kind: its name.
    file: which one.
    what: `cut to N bytes` or `bit N of byte N flipped`.
    result: `noticed`, `the same`, `unnoticed`, or an exception that is none of
      ours.
    said: the message.
  """

  kind: str
  file: str
  what: str
  result: str
  said: str


def _read_checkpoint() -> Any:
  encoder = load_encoder(pathlib.Path('encoder'))
  return encoder.digest, load_trained(pathlib.Path('encoder'))


def _read_store() -> Any:
  store = open_store('set/new/train')
  return store.read(), store.ids(), store.labels(), str(store.card)


def _read_exact_index() -> Any:
  index, ids, card = read_index(
    pathlib.Path('judged/indexes'), 'new-tiny', None
  )
  return index.reconstruct_n(0, index.ntotal), ids, str(card)


def _read_service_index() -> Any:
  # As a store again, which goes by the card beside the index.
  with tempfile.TemporaryDirectory() as folder:
    source = pathlib.Path('service.faiss')
    return vectors_to_store(
      [source], pathlib.Path(folder, 'store')
    ).store.read()


def _read_records() -> Any:
  sets = open_image_sets(find_data('gldv2:records'), 10**6)
  return [
    image_set.images[row]
    for image_set in sets.values()
    for row in range(len(image_set))
  ]


KINDS = (
  Kind('checkpoint', 'encoder/checkpoints/8/**/*', _read_checkpoint),
  Kind('store: chunk', 'set/new/train/chunks/000001/**/*', _read_store),
  Kind('store: card', 'set/new/train/card.json', _read_store),
  Kind('store: ids', 'set/new/train/ids.txt', _read_store),
  Kind('store: labels', 'set/new/train/labels.txt', _read_store),
  Kind('exact index', 'judged/indexes/new-tiny.faiss', _read_exact_index),
  Kind('exact index: card', 'judged/indexes/new-tiny.json', _read_exact_index),
  Kind(
    'exact index: ids', 'judged/indexes/new-tiny.ids.txt', _read_exact_index
  ),
  Kind('service index', 'service.faiss', _read_service_index),
  Kind('adapter', 'adapter/*', lambda: load_adapter('adapter').parameters),
  Kind(
    'weights',
    'weights.safetensors',
    lambda: read_tensors('weights.safetensors'),
  ),
  Kind('records', 'records/gldv2/1.0.0/*record*', _read_records),
)


def prepare(run: Callable[[str], None]) -> None:
  """Makes what is damaged and isn't among the inputs.

  Args:
    run: runs a line.
  """
  run(
    'evaluate --old=encoder/old --new=encoder --data=tiny:landmarks '
    '--workdir=judged --batch_size=8'
  )
  run('convert to-faiss set/new/train service.faiss --kind=hnsw --noreport')
  run('prepare records gldv2:landmarks records')


def damage(kind: Kind, seed: int, count: int) -> list[Damage]:
  """Damages files of a kind, one at a time, and mends them again.

  Args:
    kind: which one, in the working directory.
    seed: of what is done where.
    count: how often.
  """
  draws = random.Random(f'{kind.name} {seed}')
  wanted = _digest(kind.read())
  files = sorted(
    path for path in pathlib.Path().glob(kind.files) if path.is_file()
  )
  files = [path for path in files if path.stat().st_size]
  done = []
  for turn in range(count):
    # Each file in turn, and small ones as often as large ones.
    path = files[turn // 2 % len(files)]
    whole = path.read_bytes()
    place = draws.randrange(len(whole))
    if turn % 2:
      path.write_bytes(whole[:place])
      what = f'cut to {place} of {len(whole)} bytes'
    else:
      bit = draws.randrange(8)
      changed = bytearray(whole)
      changed[place] ^= 1 << bit
      path.write_bytes(changed)
      what = f'bit {bit} of byte {place} of {len(whole)} flipped'
    said = ''
    try:
      result = 'the same' if _digest(kind.read()) == wanted else 'unnoticed'
    except InputError as error:
      result, said = 'noticed', str(error)
    except Exception as error:
      result, said = type(error).__name__, str(error)
    finally:
      path.write_bytes(whole)
    done.append(Damage(kind.name, str(path), what, result, said))
  return done


def _digest(found: Any) -> str:
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(found):
    array = np.ascontiguousarray(leaf) if not isinstance(leaf, str) else None
    digest.update(leaf.encode() if array is None else array.tobytes())
  return digest.hexdigest()
