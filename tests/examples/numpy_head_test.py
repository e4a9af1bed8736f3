"""A head of ours runs in the query path without JAX, and in PyTorch."""

import pathlib

import numpy as np
import pytest

from advbct_jax.convert.from_pytorch import import_weights
from advbct_jax.convert.to_pytorch import export_weights
from advbct_jax.convert.vector_data import prepare_vectors
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.experiment import settle_vectors
from advbct_jax.training.checkpoints import load_encoder
from advbct_jax.training.upgrade import train_upgrade
from tests.tiny_vectors import draw_vectors, tiny_head_config, write_files

EXAMPLES = pathlib.Path(__file__).parents[2] / 'examples'


@pytest.fixture
def export(tmp_path, monkeypatch, request):
  monkeypatch.syspath_prepend(str(EXAMPLES))
  files = write_files(tmp_path / 'files')
  prepare_vectors(files / 'old', files / 'new', tmp_path / 'set')
  architecture, head = request.param
  config = tiny_head_config(tmp_path / 'set')
  config.model.architecture, config.model.head = architecture, head
  config.model.width = 2.0
  if head == 'none':
    config.model.init_weights = ''
    config.method = 'independent'
  config = settle_vectors(config, tmp_path / 'run')
  train_upgrade(config, tmp_path / 'run')
  export_weights(tmp_path / 'run', tmp_path / 'head.safetensors')
  return tmp_path


@pytest.mark.parametrize(
  'export',
  [
    ('features', 'batch_norm'),
    ('features_mlp', 'linear'),
    ('features_mlp', 'none'),
  ],
  indirect=True,
)
def test_numpy_and_pytorch_say_what_jax_says(export):
  import numpy_head
  import pytorch_encoder
  import safetensors.torch
  import torch

  path = export / 'head.safetensors'
  features = 7 * draw_vectors()['test']['new']
  encoder = load_encoder(export / 'run')
  said = encoder.module.apply(encoder.variables, features, train=False)
  wanted = unit_rows(np.asarray(said))
  tensors, card = numpy_head.load_head(path)
  assert card['features'] == 8
  assert card['features_of'] == 'set-new (unversioned)'
  found = numpy_head.apply_head(tensors, card, features)
  np.testing.assert_allclose(found, wanted, atol=1e-5)

  module = pytorch_encoder.build_encoder(card)
  theirs = safetensors.torch.load_file(path)
  module.load_state_dict({name: theirs[name] for name in module.state_dict()})
  with torch.inference_mode():
    found = module.eval()(torch.from_numpy(features)).numpy()
  np.testing.assert_allclose(unit_rows(found), wanted, atol=1e-5)

  with pytest.raises(InputError, match='a head on the stored features'):
    import_weights(str(path), export / 'imported')


def test_the_example_needs_no_more_than_numpy_and_safetensors():
  text = (EXAMPLES / 'numpy_head.py').read_text()
  assert 'jax' not in text.replace('advbct_jax', '')
  assert 'torch' not in text.replace('to-pytorch', '')
  assert len(text.splitlines()) <= 60
