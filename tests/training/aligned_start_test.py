"""Starts from an independent encoder that is turned onto the old encoder."""

import json
import pathlib

import jax
import numpy as np
import pytest

from advbct_jax.adapters.procrustes import procrustes_rotation
from advbct_jax.embeddings.store import open_store
from advbct_jax.errors import InputError
from advbct_jax.training.aligned_start import prepare_aligned_start, rotate
from advbct_jax.training.checkpoints import load_encoder, load_trained
from advbct_jax.training.training_images import open_training_images
from advbct_jax.training.upgrade import describe_upgrade, train_upgrade

OLD_STORE = 'old/embeddings/tiny-train'


@pytest.fixture(scope='module')
def untied(tmp_path_factory):
  """Where the independent encoder of this module lies."""
  return tmp_path_factory.mktemp('untied') / 'run'


@pytest.fixture
def independent(config, untied):
  """The workdir of the tiny encoder without any tie."""
  config = config.copy_and_resolve_references()
  config.method = 'independent'
  train_upgrade(config, untied)
  return untied


@pytest.fixture
def aligned(config, finished, independent):
  """The config of an upgrade that starts aligned."""
  config.old.path = str(finished / 'old')
  config.model.init_weights = 'aligned'
  config.aligned.path = str(independent)
  return config


def embed(encoder, params, batch_stats, images):
  return encoder.module.apply(
    {'params': params['encoder'], 'batch_stats': batch_stats['encoder']},
    images,
    train=False,
  )


def test_the_start_is_the_independent_encoder_but_for_a_rotation(
  aligned, finished, independent
):
  old = open_store(finished / OLD_STORE).read()
  start = prepare_aligned_start(
    aligned, open_training_images(aligned, check=False), old
  )
  before = load_trained(independent)
  new = open_store(independent / 'embeddings/tiny-train').read()
  rotation = procrustes_rotation(new, old)
  np.testing.assert_allclose(rotation @ rotation.T, np.eye(8), atol=1e-6)

  images = np.random.default_rng(0).normal(size=(4, 16, 16, 3))
  encoder = load_encoder(independent)
  plain = embed(encoder, before.params, before.batch_stats, images)
  turned = embed(encoder, start.params, start.batch_stats, images)
  np.testing.assert_allclose(turned, plain @ rotation, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(
    turned @ start.params['classifier']['kernel'],
    plain @ before.params['classifier']['kernel'],
    rtol=1e-4,
    atol=1e-4,
  )
  # It is a rotation worth making, and none that does nothing.
  assert np.abs(turned - plain).max() > 0.1


def test_batchnorm_starts_at_the_variance_of_the_turned_embeddings(
  aligned, independent
):
  trained = load_trained(independent)
  embeddings = np.random.default_rng(0).normal(size=(50, 8))
  rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
  params, statistics = rotate(
    trained.params, trained.batch_stats, rotation, embeddings
  )
  variance = np.var(embeddings @ rotation, axis=0)
  np.testing.assert_allclose(
    statistics['encoder']['bn']['var'], variance, rtol=1e-5
  )
  np.testing.assert_allclose(
    params['encoder']['bn']['scale'] ** 2, variance + 1e-5, rtol=1e-5
  )


def test_a_head_without_batchnorm_is_turned_too():
  random = np.random.default_rng(0)
  kernel, bias = random.normal(size=(6, 4)), random.normal(size=4)
  classifier = random.normal(size=(4, 3))
  rotation = np.linalg.qr(random.normal(size=(4, 4)))[0]
  params, statistics = rotate(
    {
      'encoder': {'projection': {'kernel': kernel, 'bias': bias}},
      'classifier': {'kernel': classifier},
    },
    {'encoder': {}},
    rotation,
    random.normal(size=(5, 4)),
  )
  projection = params['encoder']['projection']
  np.testing.assert_allclose(
    projection['kernel'], kernel @ rotation, rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(
    projection['bias'], bias @ rotation, rtol=1e-5, atol=1e-6
  )
  assert statistics == {'encoder': {}}


def test_an_aligned_upgrade_trains_on_from_there(aligned, tmp_path, capsys):
  aligned.optimizer.learning_rate = 1e-9
  train_upgrade(aligned, tmp_path / 'new')

  assert 'turned onto the old encoder' in capsys.readouterr().out
  assert json.loads((tmp_path / 'new' / 'inputs.json').read_text())['start']
  start = load_trained(tmp_path / 'new').params
  other = load_trained(pathlib.Path(aligned.aligned.path)).params
  same, turned = (
    jax.tree.map(np.allclose, start['encoder'][part], other['encoder'][part])
    for part in ('backbone', 'projection')
  )
  assert all(jax.tree.leaves(same))
  assert not any(jax.tree.leaves(turned))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'aligned.path': ''}, 'but that is empty'),
    ({'aligned.path': 'nowhere'}, 'nowhere has no config.json'),
    ({'model.head': 'none'}, 'into which no rotation can be folded'),
    ({'model.pooling': 'gem'}, r'another pooling \(mean\)'),
    ({'method': 'independent'}, 'there is no old encoder'),
  ],
)
def test_a_start_that_cannot_be_made_is_refused_before_training(
  aligned, tmp_path, change, message
):
  aligned.update_from_flattened_dict(change)
  with pytest.raises(InputError, match=message):
    describe_upgrade(aligned, tmp_path / 'new')
  assert not (tmp_path / 'new').exists()


def test_an_encoder_with_a_tie_is_no_independent_one(
  aligned, finished, tmp_path
):
  aligned.aligned.path = str(finished)
  with pytest.raises(InputError, match=r'another method \(advbct\)'):
    describe_upgrade(aligned, tmp_path / 'new')
