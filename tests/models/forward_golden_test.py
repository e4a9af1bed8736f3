"""Encoders with PyTorch's weights against PyTorch's own embeddings."""

from functools import partial
import json

import jax
import numpy as np
import pytest

from advbct_jax.models.encoder import Encoder
from advbct_jax.models.resnet import RESNETS
from advbct_jax.weights.loading import load_encoder_variables
from tests.goldens.weights import draw
from tests.goldens_folder import golden_files


@pytest.mark.golden
@pytest.mark.parametrize(
  'path', golden_files('forward_*.npz'), ids=lambda path: path.stem
)
@pytest.mark.parametrize('as_patches', [True, False])
def test_embeddings_are_those_of_pytorch(path, as_patches, monkeypatch):
  # The two ways to convolve must agree with PyTorch alike.
  monkeypatch.setattr(
    jax, 'default_backend', lambda: 'cpu' if as_patches else 'gpu'
  )
  golden = np.load(path)
  tensors = draw(
    golden['names'], [json.loads(s) for s in golden['shapes']], golden['seed']
  )
  architecture = path.stem.removeprefix('forward_')
  encoder = Encoder(RESNETS[architecture](), golden['embedding'].shape[1])
  images = golden['images_nchw'].transpose(0, 2, 3, 1)
  variables = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(
      partial(encoder.init, train=False), jax.random.key(0), images
    ),
  )
  variables, fresh = load_encoder_variables(tensors, variables, path.name)
  assert not fresh

  embedding, state = encoder.apply(
    variables,
    images,
    train=False,
    capture_intermediates=lambda module, _: isinstance(
      module, type(encoder.backbone)
    ),
  )
  pooled = state['intermediates']['backbone']['__call__'][0]
  np.testing.assert_allclose(
    pooled, golden['pooled'], rtol=0, atol=1e-4 * np.abs(golden['pooled']).max()
  )
  np.testing.assert_allclose(
    embedding,
    golden['embedding'],
    rtol=0,
    atol=1e-4 * np.abs(golden['embedding']).max(),
  )
