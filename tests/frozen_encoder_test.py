"""One command from files of weights to a head that is judged."""

import json

import pytest

from advbct_jax.convert.to_pytorch import export_weights
from advbct_jax.embeddings.store import open_store
from advbct_jax.errors import InputError
from advbct_jax.experiment import ENCODERS, settle_vectors, train_and_judge
from advbct_jax.models.resnet import RESNETS
from advbct_jax.training.checkpoints import load_encoder
from tests.tiny_upgrade import TINY, contents
from tests.tiny_vectors import tiny_head_config

PARTS = ('train', 'index', 'test')


@pytest.fixture(scope='module')
def weights(finished, tmp_path_factory):
  """A file of weights of a tiny encoder of images; not to be changed."""
  path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(RESNETS, 'tiny', TINY)
    export_weights(finished, path)
  return path


@pytest.fixture
def config(landmarks, weights, monkeypatch):
  """A head on what the weights say of images, tied to smaller images."""
  monkeypatch.setitem(RESNETS, 'tiny', TINY)
  config = tiny_head_config(landmarks)
  config.data.name = 'tiny'
  config.evaluation.data = ('tiny',)
  config.data.features = config.old.path = str(weights)
  config.data.image_size = 16
  config.old.image_size = 12
  return config


def test_weights_embed_all_data_and_a_head_is_trained_and_judged(
  config, tmp_path, capsys
):
  train_and_judge(config, tmp_path)

  for role, size in (('old', 12), ('features', 16)):
    encoder = tmp_path / ENCODERS / role
    assert load_encoder(encoder).image_size == size
    for part in PARTS:
      store = open_store(encoder / 'embeddings' / f'tiny-{part}')
      assert store.card.complete
  results = json.loads((tmp_path / 'results.json').read_text())
  assert list(results['datasets']['tiny']) == [
    'old',
    'self',
    'cross',
    'refresh',
  ]

  before = {
    role: contents(tmp_path / ENCODERS / role) for role in ('old', 'features')
  }
  train_and_judge(config, tmp_path)
  assert 'all done' in capsys.readouterr().out
  for role, files in before.items():
    assert contents(tmp_path / ENCODERS / role) == files


def test_what_was_embedded_at_another_size_is_not_taken(config, tmp_path):
  settled = settle_vectors(config, tmp_path)
  assert settled.old.path == str(tmp_path / ENCODERS / 'old/embeddings')
  assert settled.model.dimension == 8

  config.old.image_size = 0  # that of the new encoder
  with pytest.raises(
    InputError, match=r'old: the encoder of tiny\.safetensors .* 12 pixels'
  ):
    settle_vectors(config, tmp_path)


def test_weights_without_data_are_refused(config, tmp_path):
  config.data.root = ''
  with pytest.raises(InputError, match=r'config\.data\.root is empty'):
    settle_vectors(config, tmp_path)
