"""Maps a new encoder's vectors by a head that advbct_jax has trained on them.

  advbct convert to-pytorch WORKDIR head.safetensors
  python examples/numpy_head.py head.safetensors VECTORS.npy OUT.npy

Copy this file to where queries are embedded; it needs NumPy and safetensors.
"""

import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file

EPSILON = 1e-5  # of BatchNorm


def load_head(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict]:
  """Reads a head, and the card that lies beside it."""
  return load_file(path), json.loads(path.with_suffix('.json').read_text())


def apply_head(
  tensors: dict[str, np.ndarray], card: dict, features: np.ndarray
) -> np.ndarray:
  """Maps [N, E] vectors of the encoder `features_of` to [N, D], as searched.

  The result has length 1. Of one wider than the old vectors, compare the first
  `compatible_dimension` components with these, brought to length 1 again.
  """
  x = unit(np.asarray(features, np.float32)) * card['features'] ** 0.5

  def linear(module: str, x: np.ndarray) -> np.ndarray:
    y = x @ tensors[f'{module}.weight'].T
    return y + tensors.get(f'{module}.bias', np.float32(0))

  where = {'linear': 'backbone.', 'none': ''}.get(card['head'], 'convnet.')
  if f'{where}fc1.weight' in tensors:
    x = x + linear(f'{where}fc2', np.maximum(linear(f'{where}fc1', x), 0))
  if card['head'] != 'none':
    x = linear('fc_emb' if card['head'] == 'linear' else 'projection_dim', x)
  if card['head'].startswith('batch_norm'):
    mean, var, scale, bias = (
      tensors[f'bn.{name}']
      for name in ('running_mean', 'running_var', 'weight', 'bias')
    )
    x = (x - mean) / np.sqrt(var + EPSILON) * scale + bias
  return unit(np.maximum(x, 0) if card['head'].endswith('_relu') else x)


def unit(x: np.ndarray) -> np.ndarray:
  """Brings the rows of [N, D] to length 1."""
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


if __name__ == '__main__':
  _, head, vectors, out = sys.argv
  np.save(out, apply_head(*load_head(pathlib.Path(head)), np.load(vectors)))
