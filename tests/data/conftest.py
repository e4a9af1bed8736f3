"""Small data sets in the published layouts."""

import io
import pathlib
import pickle

import numpy as np
from PIL import Image
import pytest

TABLES = {
  'train_clean.csv': 'landmark_id,images\n69,aaa1 aaa2 aaa3\n174,bbb1 bbb2\n',
  'index.csv': 'id\nccc1\nddd1\nccc2\nddd2\n',
  'test.csv': 'id\nqqq3\nqqq1\nqqq2\n',
  'retrieval_solution_v2.1.csv': (
    'id,images,Usage\nqqq2,ccc1 ccc2,Public\nqqq3,None,Ignored\n'
    'qqq1,ddd2 ddd1,Private\n'
  ),
}
FOLDERS = {
  'train': ('aaa1', 'aaa2', 'aaa3', 'bbb1', 'bbb2'),
  'index': ('ccc1', 'ddd1', 'ccc2', 'ddd2'),
  'test': ('qqq1', 'qqq2', 'qqq3'),
}
GROUND_TRUTH = {
  'imlist': ['tower_1', 'tower_2', 'bridge_1', 'bridge_2'],
  'qimlist': ['tower_q', 'bridge_q'],
  'gnd': [
    {'bbx': [2.0, 1.0, 12.5, 9], 'easy': [0], 'hard': [1], 'junk': [3]},
    {'bbx': [0, 0, 16, 8], 'easy': [], 'hard': [2, 3], 'junk': []},
  ],
}


def jpeg(name: str, width: int = 16, height: int = 12) -> bytes:
  """A JPEG whose pixels depend on its name."""
  rng = np.random.default_rng(list(name.encode()))
  pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
  encoded = io.BytesIO()
  Image.fromarray(pixels).save(encoded, 'JPEG')
  return encoded.getvalue()


@pytest.fixture
def gldv2_root(tmp_path: pathlib.Path) -> pathlib.Path:
  """A folder in GLDv2's layout: 5 training, 4 index and 3 test images."""
  root = tmp_path / 'landmarks'
  for folder, ids in FOLDERS.items():
    for image_id in ids:
      path = root / folder / '/'.join(image_id[:3]) / f'{image_id}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(jpeg(image_id))
  for table, content in TABLES.items():
    (root / table).write_text(content)
  return root


@pytest.fixture
def revisited_root(tmp_path: pathlib.Path) -> pathlib.Path:
  """`rtiny` in the Revisited layout: 4 gallery images and 2 queries."""
  root = tmp_path / 'revisited_sets'
  (root / 'rtiny' / 'jpg').mkdir(parents=True)
  (root / 'gnd_rtiny.pkl').write_bytes(pickle.dumps(GROUND_TRUTH))
  for name in (*GROUND_TRUTH['imlist'], *GROUND_TRUTH['qimlist']):
    (root / 'rtiny' / 'jpg' / f'{name}.jpg').write_bytes(jpeg(name))
  return root
