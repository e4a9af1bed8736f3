"""Two encoders' vectors of the same few things, for tests to train on."""

import pathlib
from typing import Any

import ml_collections
import numpy as np

from configs import vectors

CLASSES, THINGS, OLD_WIDTH, NEW_WIDTH = 4, 8, 6, 8


def draw_vectors(
  seed: int = 0, old_width: int = OLD_WIDTH
) -> dict[str, dict[str, np.ndarray]]:
  """Ids, labels, and an old and a new vector of each thing, by part."""
  random = np.random.default_rng(seed)
  centers = random.normal(size=(2 * CLASSES, NEW_WIDTH))
  turn = np.linalg.qr(random.normal(size=(NEW_WIDTH, NEW_WIDTH)))[0]
  parts = {}
  for part, classes, things in (
    ('train', range(CLASSES), THINGS),
    ('index', range(CLASSES, 2 * CLASSES), 4),
    ('test', range(CLASSES, 2 * CLASSES), 1),
  ):
    labels = np.repeat(list(classes), things)
    new = centers[labels] + random.normal(0, 0.4, (len(labels), NEW_WIDTH))
    noise = random.normal(0, 0.3, new.shape)
    parts[part] = {
      'ids': np.array([f'{part}/{row}.txt' for row in range(len(labels))]),
      'labels': np.array([f'class {label}' for label in labels]),
      'new': new.astype(np.float32),
      'old': ((new + noise) @ turn)[:, :old_width].astype(np.float32),
    }
  return parts


def write_files(
  root: pathlib.Path,
  labelled: tuple[str, ...] = ('train', 'index', 'test'),
  old_width: int = OLD_WIDTH,
) -> pathlib.Path:
  """Writes them as .npz files into ROOT/old and ROOT/new; returns ROOT."""
  for part, arrays in draw_vectors(old_width=old_width).items():
    for side in ('old', 'new'):
      (root / side).mkdir(parents=True, exist_ok=True)
      written: dict[str, Any] = {
        'embeddings': arrays[side],
        'ids': arrays['ids'],
      }
      if part in labelled:
        written['labels'] = arrays['labels']
      np.savez(root / side / f'{part}.npz', **written)
  return root


def tiny_head_config(root: pathlib.Path) -> ml_collections.ConfigDict:
  """A head on them: 8 steps."""
  config = vectors.get_config()
  config.data.root = str(root)
  config.batch_size = 8
  config.epochs = 2
  config.checkpoint.every_steps = 4
  config.log.every_steps = 1
  config.evaluation.batch_size = 8
  return config
