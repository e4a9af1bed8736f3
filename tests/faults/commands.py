"""Each command on inputs so small that it can be disturbed often.

A line is read in a folder that `write_inputs` has filled, and names what is in
there and what it makes by relative paths, so that the same line leaves the same
files wherever the folder lies.
"""

from collections.abc import Callable
import dataclasses
import pathlib
import shutil
from unittest import mock

import numpy as np

from advbct_jax.comparison.results import write_results
from advbct_jax.convert import vector_rows
from advbct_jax.drawn_landmarks.data_set import draw_landmarks
from advbct_jax.embeddings.extract import extract
from advbct_jax.models.resnet import RESNETS
from tests.comparison.made_up_cells import make_grid
from tests.tiny_upgrade import TINY, write_landmarks
from tests.tiny_vectors import NEW_WIDTH, write_files

# A store of 32 vectors has several.
_CHUNK_ROWS = 8

_CONFIGS = {
  'tiny.py': """
from tests import tiny_upgrade
def get_config():
  config = tiny_upgrade.tiny_config('landmarks')
  config.checkpoint.every_steps = 2
  return config
""",
  'head.py': """
from tests import tiny_vectors
def get_config():
  config = tiny_vectors.tiny_head_config('set')
  config.checkpoint.every_steps = 2
  return config
""",
  'grid.py': """
from tests.comparison import frozen_pair_test
def get_config():
  return frozen_pair_test.make_grid('set')
""",
  'chain.py': """
from tests.chains import tiny_chain
def get_config():
  return tiny_chain.tiny_chain('set', 0.5, 1.0)
""",
}


@dataclasses.dataclass(frozen=True)
class Command:
  """A command to disturb.

  Attributes:
    name: what it is called in tables.
    line: what follows `advbct`.
    done: what it says, and ends with an error, where all is done already.
  """

  name: str
  line: str
  done: str = 'nothing of the kind'


_WRITTEN_ONCE = 'is there already, and nothing is ever written over'

COMMANDS = (
  Command('train', 'train --config=tiny.py --workdir=run'),
  Command('train a head', 'train --config=head.py --workdir=run'),
  Command('embed', 'embed encoder --batch_size=8'),
  Command(
    'evaluate',
    'evaluate --old=encoder/old --new=encoder --data=tiny:landmarks '
    '--workdir=judged --batch_size=8',
  ),
  Command(
    'evaluate --refresh',
    'evaluate --old=set/old --new=set/new --data=vectors:set '
    '--workdir=judged --refresh=fixed,auto,cascade:5',
  ),
  Command('refresh plan', 'refresh plan many/old.npz many/new.npz'),
  Command('compare', 'compare --config=grid.py --workdir=grid --jobs=2'),
  Command('tables', 'tables grid_done/results.json tables'),
  Command('chain', 'chain --config=chain.py --workdir=links'),
  Command('adapters fit', 'adapters fit ridge set/new/train set/old/train fit'),
  Command('adapters apply', 'adapters apply adapter set/new/train mapped'),
  Command('prepare own', 'prepare own photos own', done=_WRITTEN_ONCE),
  Command(
    'prepare records',
    'prepare records gldv2:landmarks records',
    done=_WRITTEN_ONCE,
  ),
  Command(
    'prepare vectors',
    'prepare vectors files/old files/new vectors',
    done=_WRITTEN_ONCE,
  ),
  Command('prepare check', 'prepare check landmarks --out=checked.csv'),
  Command('prepare landmarks', 'prepare landmarks drawn'),
  Command(
    'convert to-store',
    'convert to-store files/new/train.npz stored --encoder=ours',
    done=_WRITTEN_ONCE,
  ),
  Command(
    'convert from-store',
    'convert from-store set/new/train out.npz',
    done=_WRITTEN_ONCE,
  ),
  Command(
    'convert to-faiss',
    'convert to-faiss set/new/train index.faiss --kind=hnsw --noreport',
  ),
  Command('convert to-pytorch', 'convert to-pytorch encoder out.safetensors'),
  Command(
    'convert from-pytorch',
    'convert from-pytorch weights.safetensors imported',
    done='is there already',
  ),
)


def make_small() -> None:
  """Makes the package's defaults fit the inputs; for good, in this process."""
  RESNETS['tiny'] = TINY
  for function, defaults in (
    (extract, {'chunk_rows': _CHUNK_ROWS}),
    (
      draw_landmarks,
      {'classes': 6, 'images_per_class': 4, 'held_out_classes': 3},
    ),
  ):
    function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), **defaults}
  mock.patch.object(vector_rows, 'DEFAULT_CHUNK_ROWS', _CHUNK_ROWS).start()


def write_inputs(folder: pathlib.Path, run: Callable[[str], None]) -> None:
  """Fills a folder with what the commands' lines name.

  Args:
    folder: which one.
    run: runs a line in it.
  """
  for name, text in _CONFIGS.items():
    (folder / name).write_text(text)
  write_landmarks(folder / 'landmarks')
  for image in (folder / 'landmarks/train').rglob('*.jpg'):
    photo = folder / 'photos' / image.name[:2] / image.name
    photo.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(image, photo)
  write_files(folder / 'files', old_width=NEW_WIDTH)
  _write_pairs(folder / 'many', 300)
  run('prepare vectors files/old files/new set')
  run('train --config=tiny.py --workdir=encoder')
  run('convert to-pytorch encoder weights.safetensors')
  run('adapters fit set/new/train set/old/train adapter')
  write_results(make_grid(), folder / 'grid_done/results.json')
  # What the commands are to make themselves.
  for name in ('encoder/embeddings', 'encoder/old/embeddings'):
    shutil.rmtree(folder / name)


def _write_pairs(folder: pathlib.Path, count: int) -> None:
  """Two encoders' vectors of so many things, as files."""
  folder.mkdir()
  new = np.random.default_rng(0).normal(size=(count, NEW_WIDTH))
  old = new + np.random.default_rng(1).normal(size=new.shape) / 4
  for name, vectors in (('new', new), ('old', old)):
    np.savez(
      folder / f'{name}.npz',
      embeddings=vectors.astype(np.float32),
      ids=np.array([f'{row}.txt' for row in range(count)]),
    )
