"""An upgrade so small that a test can train it: images, backbone, config."""

from functools import partial
import pathlib

import ml_collections
import numpy as np
from PIL import Image

from advbct_jax.models.resnet import BasicBlock, ResNet
from configs import base

CLASSES, IMAGES_PER_CLASS = 8, 6

# An entry of `resnet.RESNETS`: one stage of one block, which compiles fast.
TINY = partial(ResNet, (1,), BasicBlock)


def write_landmarks(root: pathlib.Path) -> pathlib.Path:
  """Draws landmarks into a folder in GLDv2's layout.

  Two thirds of the images of each class are for training; the next is a query
  and the last its answer in the gallery.
  """
  random = np.random.default_rng(0)
  tables = {
    'train_clean.csv': ['landmark_id,images'],
    'index.csv': ['id'],
    'test.csv': ['id'],
    'retrieval_solution_v2.1.csv': ['id,images,Usage'],
  }
  for number in range(CLASSES):
    ids = [f'{number:02}{index:02}' for index in range(IMAGES_PER_CLASS)]
    coarse = random.uniform(30, 225, (4, 4, 3))
    for image_id in ids:
      noisy = coarse.repeat(4, 0).repeat(4, 1) + random.normal(
        0, 9, (16, 16, 3)
      )
      *training, query, answer = ids
      folder = {query: 'test', answer: 'index'}.get(image_id, 'train')
      path = root / folder / '/'.join(image_id[:3]) / f'{image_id}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(noisy.astype(np.uint8)).save(path, quality=95)
    tables['train_clean.csv'].append(f'{number},{" ".join(training)}')
    tables['index.csv'].append(answer)
    tables['test.csv'].append(query)
    usage = 'Private' if number % 2 else 'Public'
    tables['retrieval_solution_v2.1.csv'].append(f'{query},{answer},{usage}')
  for name, lines in tables.items():
    (root / name).write_text('\n'.join(lines) + '\n')
  return root


def tiny_config(root: pathlib.Path) -> ml_collections.ConfigDict:
  """An upgrade on these landmarks: 2 old steps and 8 new ones."""
  config = base.get_config()
  config.data.name = 'tiny'
  config.data.root = str(root)
  config.data.image_size = 16
  config.data.augmentation = 'affine'
  config.data.workers = 0
  config.data.split.old_fraction = 0.5
  config.batch_size = 8
  config.checkpoint.every_steps = 4
  config.log.every_steps = 1
  config.evaluation.data = ('tiny',)
  config.evaluation.batch_size = 8
  for model in (config.model, config.old.model):
    model.architecture = 'tiny'
    model.width = 1 / 16
    model.stem = 'small'
    model.dimension = 8
  config.epochs = 2
  config.old.epochs = 1
  config.optimizer.drop_epochs = (1,)
  return config


def contents(folder: pathlib.Path) -> dict[pathlib.Path, tuple[int, int]]:
  """Everything in a folder, with its time and size."""
  return {
    path: (path.stat().st_mtime_ns, path.stat().st_size)
    for path in folder.rglob('*')
  }
