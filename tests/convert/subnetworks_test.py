"""Subnetworks that become encoders: their weights, searches, PyTorch."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from advbct_jax.convert.subnetworks import export_subnetworks
from advbct_jax.convert.to_pytorch import export_weights
from advbct_jax.convert.vector_data import prepare_vectors
from advbct_jax.errors import InputError
from advbct_jax.experiment import settle_vectors
from advbct_jax.models.resnet import RESNETS
from advbct_jax.training.checkpoints import load_encoder, load_trained
from advbct_jax.training.upgrade import train_upgrade
from advbct_jax.training.workdir import claim_workdir, require_same_run
from tests.tiny_upgrade import TINY, tiny_config
from tests.tiny_vectors import tiny_head_config, write_files

CAPACITY = 40


def nested_config(landmarks):
  config = tiny_config(landmarks)
  config.method = 'prunnet'
  config.prunnet.capacities = (CAPACITY, 100)
  config.epochs = 1
  config.optimizer.drop_epochs = ()
  return config


@pytest.fixture(scope='module', autouse=True)
def tiny_backbone():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(RESNETS, 'tiny', TINY)
    yield


@pytest.fixture(scope='module')
def run(landmarks, tiny_backbone, tmp_path_factory):
  """The workdir of a run; not to be changed."""
  workdir = tmp_path_factory.mktemp('nested') / 'run'
  train_upgrade(nested_config(landmarks), workdir)
  return workdir


@pytest.fixture(scope='module')
def parts(run):
  """The folder of its subnetworks; likewise."""
  export_subnetworks(run, run.parent / 'parts')
  return run.parent / 'parts'


def test_a_subnetwork_has_its_weights_and_its_statistics(run, parts):
  state = load_trained(run)
  small = load_encoder(parts / str(CAPACITY)).variables
  kernel, scores = (
    tree['backbone']['layer1_0']['conv1']['kernel']
    for tree in (state.params['encoder'], state.params['method']['scores'])
  )
  size = np.abs(scores)
  place = round(0.6 * (size.size - 1))
  wanted = np.where(size >= np.sort(size, axis=None)[place], kernel, 0)
  np.testing.assert_array_equal(
    small['params']['backbone']['layer1_0']['conv1']['kernel'], wanted
  )
  statistics = state.batch_stats['method'][f'subnetwork_{CAPACITY}']
  jax.tree.map(np.testing.assert_array_equal, small['batch_stats'], statistics)
  for name in ('projection', 'bn'):
    jax.tree.map(
      np.testing.assert_array_equal,
      small['params'][name],
      state.params['encoder'][name],
    )


def test_the_whole_network_is_exported_as_it_is(run, parts):
  assert load_encoder(parts / '100').digest == load_encoder(run).digest
  assert load_encoder(parts / str(CAPACITY)).digest != load_encoder(run).digest


def test_a_small_encoder_searches_the_gallery_of_the_large_one(
  parts, landmarks, command, tmp_path
):
  options = (f'--data=tiny:{landmarks}', '--batch_size=8')
  small, large = (parts / name for name in (str(CAPACITY), '100'))
  command(
    'evaluate',
    f'--old={large}',
    f'--new={small}',
    *options,
    f'--workdir={tmp_path / "pair"}',
  )
  command(
    'evaluate',
    f'--encoders={small},{large}',
    *options,
    f'--workdir={tmp_path / "matrix"}',
  )
  results = json.loads((tmp_path / 'pair/results.json').read_text())
  pair = results['datasets']['tiny']
  matrix = json.loads((tmp_path / 'matrix/matrix.json').read_text())
  metric = matrix['datasets']['tiny']['main_metric']
  assert matrix['names'] == [str(CAPACITY), '100']
  [own, across], [_, whole] = matrix['datasets']['tiny']['matrices'][metric]
  assert (own, across, whole) == (
    pair['self'][metric],
    pair['cross'][metric],
    pair['old'][metric],
  )
  text = (tmp_path / 'matrix/matrix.md').read_text()
  assert f'| queries | gallery {CAPACITY} | gallery 100 |' in text
  picture = (tmp_path / 'matrix/matrix-tiny.png').read_bytes()
  assert picture.startswith(b'\x89PNG')


def test_a_subnetwork_goes_to_pytorch(parts, tmp_path):
  out = tmp_path / 'small.safetensors'
  export_weights(parts / str(CAPACITY), out)
  tensors = safetensors.numpy.load_file(out)
  encoder = load_encoder(parts / str(CAPACITY))
  np.testing.assert_array_equal(
    tensors['convnet.conv1.weight'].transpose(2, 3, 1, 0),
    encoder.variables['params']['backbone']['conv1']['kernel'],
  )
  assert np.mean(tensors['convnet.conv1.weight'] != 0) == pytest.approx(
    CAPACITY / 100, abs=0.02
  )
  card = json.loads((tmp_path / 'small.json').read_text())
  assert card['weights'] == encoder.digest


def test_a_subnetwork_is_no_training_to_go_on_with(parts, landmarks):
  with pytest.raises(InputError, match='subnetwork: 40 there, None here'):
    require_same_run(parts / str(CAPACITY), nested_config(landmarks))


def test_a_part_of_a_part_is_refused(parts, tmp_path):
  with pytest.raises(InputError, match='the subnetwork of 40%, which has no'):
    export_subnetworks(parts / str(CAPACITY), tmp_path / 'out')


def test_nothing_is_written_over(run, parts):
  with pytest.raises(InputError, match='is there already'):
    export_subnetworks(run, parts)


def test_a_run_of_another_method_is_refused(tmp_path, landmarks):
  claim_workdir(tmp_path / 'run', tiny_config(landmarks))
  with pytest.raises(InputError, match='a run of advbct, which has no subnet'):
    export_subnetworks(tmp_path / 'run', tmp_path / 'out')


def test_the_head_of_stored_features_keeps_what_it_takes(tmp_path):
  files = write_files(tmp_path / 'files')
  prepare_vectors(files / 'old', files / 'new', tmp_path / 'set')
  config = tiny_head_config(tmp_path / 'set')
  config.method = 'prunnet'
  config.prunnet.capacities = (CAPACITY, 100)
  config.model.update(
    {'architecture': 'features_mlp', 'head': 'linear', 'init_weights': ''}
  )
  config.epochs = 1
  train_upgrade(settle_vectors(config, tmp_path), tmp_path / 'run')
  export_subnetworks(tmp_path / 'run', tmp_path / 'parts')
  small = load_encoder(tmp_path / 'parts' / str(CAPACITY))
  assert (
    small.features.encoder == load_encoder(tmp_path / 'run').features.encoder
  )
  assert 'batch_stats' not in small.variables
