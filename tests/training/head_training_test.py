"""Heads on stored features: trained, resumed, judged, started."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from advbct_jax.adapters.procrustes import procrustes_rotation
from advbct_jax.convert.vector_data import prepare_vectors
from advbct_jax.embeddings.features import FeatureRows
from advbct_jax.embeddings.store import open_store
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.errors import InputError
from advbct_jax.experiment import settle_vectors, train_and_judge
from advbct_jax.methods import METHODS
from advbct_jax.models.encoder import make_encoder
from advbct_jax.training.checkpoints import (
  load_encoder,
  load_trained,
  read_config,
)
from advbct_jax.training.logging import read_metrics
from advbct_jax.training.old_side import check_old_encoder
from advbct_jax.training.training_images import open_training_images
from advbct_jax.training.upgrade import train_upgrade
from tests.tiny_vectors import draw_vectors, tiny_head_config, write_files


@pytest.fixture(scope='module')
def vectors(tmp_path_factory):
  """A data set of vectors; not to be changed."""
  folder = tmp_path_factory.mktemp('vectors')
  files = write_files(folder / 'files')
  prepare_vectors(files / 'old', files / 'new', folder / 'set')
  return folder / 'set'


@pytest.fixture
def config(vectors):
  return tiny_head_config(vectors)


def settled(config, workdir):
  return settle_vectors(config, workdir)


def arrays_of(workdir):
  state = load_trained(workdir)
  return jax.tree.leaves((state.params, state.batch_stats, state.memory))


def assert_equal(one, other):
  for here, there in zip(one, other, strict=True):
    np.testing.assert_array_equal(here, there)


def train_and_die(config, workdir, monkeypatch):
  """Trains until the checkpoint of step 4 is there, halfway."""
  call = FeatureRows.__call__

  def die(load, rows, pool=None):
    if (workdir / 'checkpoints/4').exists():
      raise KeyboardInterrupt
    return call(load, rows, pool)

  with monkeypatch.context() as patch:
    patch.setattr(FeatureRows, '__call__', die)
    patch.setattr('advbct_jax.data.pipeline._BATCHES_AHEAD', 1)
    with pytest.raises(BaseException):  # noqa: B017, PT011
      train_upgrade(config, workdir)


@pytest.mark.parametrize('method', METHODS)
def test_every_method_trains_a_head_and_goes_on_bit_for_bit(
  config, vectors, tmp_path, monkeypatch, method
):
  config.method = method
  # Before the kill and after it.
  for option in ('refinement_epochs', 'perturbation_epochs'):
    if option in config[method]:
      config[method][option] = (0, 1)
  config.model.head = 'batch_norm'
  untied = not METHODS[method].needs_old_model
  width = 8 if untied else 6
  # Made for wider ones.
  config.d_simplex.vertices = config.hoc.vertices = width + 1
  config.bt2.extra_dimensions = 0
  # Old widths differ from the features', and from what is untied.
  for name in config.stores:
    config.stores[name] = str(vectors / 'old')
  if untied:
    config.model.init_weights = 'identity'
  if method == 'prunnet':  # a head of one layer has nothing to prune
    config.model.architecture = 'features_mlp'
    config.prunnet.capacities = (40, 100)
  config = settled(config, tmp_path)
  assert config.model.dimension == width
  train_upgrade(config, tmp_path / 'whole')
  trained = arrays_of(tmp_path / 'whole')
  assert all(np.isfinite(leaf).all() for leaf in trained)
  lines = read_metrics(tmp_path / 'whole')
  assert all(np.isfinite(line['loss']) for line in lines)
  # HOC takes the mean of both, MixBCT adds nothing, and of so few samples none
  # lies beyond its boundary.
  if not untied and method not in ('hoc', 'mixbct', 'advbct_improved'):
    assert lines[0]['loss'] > lines[0]['classification_loss']

  train_and_die(config, tmp_path / 'killed', monkeypatch)
  assert len(read_metrics(tmp_path / 'killed')) < len(lines)
  train_upgrade(config, tmp_path / 'killed')
  assert_equal(trained, arrays_of(tmp_path / 'killed'))


@pytest.mark.parametrize(
  ('method', 'option'),
  [('unibct', 'refinement_epochs'), ('ndpp', 'perturbation_epochs')],
)
def test_prototypes_are_renewed_before_an_epoch(
  config, tmp_path, method, option
):
  config.method = method
  config[method][option] = (1,)
  config = settled(config, tmp_path)
  train_upgrade(config, tmp_path)
  lines = read_metrics(tmp_path)
  begun = [line['loss'] > line['classification_loss'] for line in lines]
  assert begun == ([method == 'ndpp'] * 4 + [True] * 4)
  prototypes = load_trained(tmp_path).memory['method']['prototypes']
  assert prototypes.shape == (4, 6)
  assert prototypes.any(axis=1).all()


def test_an_old_head_can_have_the_fixed_classifier_of_the_new_one(
  config, tmp_path
):
  config.method, config.old.method = 'hoc', 'd_simplex'
  config.old.path, config.model.init_weights = '', ''
  for model in (config.model, config.old.model):
    model.dimension = 5
  config.hoc.vertices = config.d_simplex.vertices = 6
  train_upgrade(config, tmp_path)
  old = read_config(tmp_path / 'old')
  assert (old.method, old.d_simplex.vertices) == ('d_simplex', 6)
  assert 'hoc' not in old
  for workdir in (tmp_path / 'old', tmp_path):
    assert set(load_trained(workdir).params) == {'encoder'}
    assert all(np.isfinite(line['loss']) for line in read_metrics(workdir))
  # Another old encoder, in the place of what was trained for it.
  config.old.path = str(tmp_path / 'old')
  config.old.method = 'independent'
  check_old_encoder(config, read_config(tmp_path / 'old'))
  config.old.path = ''
  with pytest.raises(InputError, match=r"one of 'independent'; wanted: one of"):
    train_upgrade(config, tmp_path / 'other')


def test_a_head_is_judged_by_what_it_makes_of_stored_features(
  config, vectors, tmp_path
):
  train_and_judge(config, tmp_path)
  found = json.loads((tmp_path / 'results.json').read_text())['datasets']
  assert {'old', 'self', 'cross'} <= found['vectors'].keys()
  encoder = load_encoder(tmp_path)
  test = open_store(vectors / 'new/test')
  wanted = encoder.module.apply(encoder.variables, test.read(), train=False)
  store = open_store(tmp_path / 'embeddings/vectors-test')
  np.testing.assert_allclose(store.read(), wanted, atol=1e-5)
  assert store.card.preprocessing == 'features of set-new (unversioned)'


def test_files_as_they_lie_train_the_same_head(config, vectors, tmp_path):
  files = tmp_path / 'files'
  shutil.copytree(vectors, files)
  for side in ('old', 'new'):
    shutil.rmtree(files / side)
    shutil.copytree(vectors.parent / 'files' / side, files / side)
  train_upgrade(settled(config, tmp_path / 'a'), tmp_path / 'a')
  config.data.root = str(files)
  train_upgrade(settled(config, tmp_path / 'b'), tmp_path / 'b')
  assert_equal(arrays_of(tmp_path / 'a'), arrays_of(tmp_path / 'b'))


@pytest.mark.parametrize(
  ('method', 'memory_mib'), [('advbct', 0), ('advbct', 2048), ('prunnet', 0)]
)
def test_a_killed_training_goes_on_with_the_same_numbers(
  config, tmp_path, monkeypatch, method, memory_mib
):
  config.model.architecture = 'features_mlp'
  config.method = method
  if method == 'prunnet':
    config.model.update({'init_weights': '', 'head': 'batch_norm'})
    config.prunnet.capacities = (40, 100)
  config = settled(config, tmp_path)
  train_upgrade(config, tmp_path / 'whole')
  config.data.memory_mib = memory_mib  # mapped, and in memory
  killed = tmp_path / 'killed'
  train_and_die(config, killed, monkeypatch)
  train_upgrade(config, killed)
  assert_equal(arrays_of(tmp_path / 'whole'), arrays_of(killed))
  assert bool(list(killed.glob('features/*.npy'))) == (memory_mib == 0)


def test_features_that_changed_are_refused_on_the_way(
  config, vectors, tmp_path
):
  files = tmp_path / 'files'
  shutil.copytree(vectors.parent / 'files', files)
  config.data.features = str(files / 'new')
  config = settled(config, tmp_path / 'run')
  train_upgrade(config, tmp_path / 'run')
  path = files / 'new/train.npz'
  arrays = dict(np.load(path))
  np.savez(path, **arrays | {'embeddings': arrays['embeddings'] + 1})
  config.data.features = str(files / 'new')
  with pytest.raises(InputError, match='features'):
    train_upgrade(settled(config, tmp_path / 'run'), tmp_path / 'run')


@pytest.mark.parametrize(
  ('architecture', 'head', 'start'),
  [  # each value of one meets each of another
    ('features', 'linear', 'identity'),
    ('features', 'batch_norm', 'rotation'),
    ('features_mlp', 'linear', 'rotation'),
    ('features_mlp', 'batch_norm', 'identity'),
  ],
)
def test_a_head_starts_as_the_features_turned_or_as_they_are(
  config, tmp_path, architecture, head, start
):
  config.model.architecture = architecture
  config.model.head = head
  config.model.init_weights = start
  config.optimizer.learning_rate = 1e-12
  train_upgrade(settled(config, tmp_path), tmp_path)
  encoder = load_encoder(tmp_path)
  parts = draw_vectors()
  new, old = parts['train']['new'], parts['train']['old']
  turn = procrustes_rotation(new, old) if start == 'rotation' else np.eye(8)
  found = encoder.module.apply(
    encoder.variables, parts['test']['new'], train=False
  )
  wanted = unit_rows(parts['test']['new']) @ turn[:, :6] * np.sqrt(8)
  # BatchNorm has averaged its statistics with those of batches since.
  tolerance = 1e-4 if head == 'linear' else 0.6
  np.testing.assert_allclose(found, wanted, atol=tolerance)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'model.head': 'none'}, 'head'),
    (
      {'model.dimension': 9, 'model.compatible_dimension': 6},
      'at most as many',
    ),
    ({'model.architecture': 'resnet18'}, 'takes images'),
    ({'model.init_weights': 'weights.safetensors'}, 'from no file'),
    ({'data.features': ''}, 'config.data.features is empty'),
    ({'method': 'independent', 'model.dimension': 6}, 'knows no old encoder'),
  ],
)
def test_a_start_or_head_that_cannot_be_is_refused_before_training(
  config, tmp_path, change, said
):
  config = settled(config, tmp_path)
  with config.unlocked():
    config.update_from_flattened_dict(change)
  with pytest.raises(InputError, match=said):
    train_and_judge(config, tmp_path / 'run')


def test_a_head_refuses_features_of_another_encoder(config, vectors, tmp_path):
  config = settled(config, tmp_path)
  train_upgrade(config, tmp_path)
  encoder = load_encoder(tmp_path, features=str(vectors / 'old'))
  images = open_training_images(config, check=True, workdir=tmp_path)
  with pytest.raises(InputError, match='set-old'):
    encoder.loader(images.image_set)
  # Nor is a loader of the one's features taken for the other's.
  other = dataclasses.replace(encoder.features, encoder='other')
  assert not dataclasses.replace(encoder, features=other).takes(images.load)


def test_lengths_of_features_say_nothing():
  encoder = make_encoder('features', head='none', dimension=8, dtype='float32')
  features = draw_vectors()['test']['new']
  found = encoder.apply({}, features, train=False)
  np.testing.assert_allclose(
    encoder.apply({}, 3 * features, train=False), found, rtol=1e-6
  )
  np.testing.assert_allclose(np.square(found).sum(axis=1), 8, rtol=1e-5)


def test_things_without_labels_train_a_tie_image_by_image(tmp_path):
  files = write_files(tmp_path / 'files', labelled=())
  prepare_vectors(files / 'old', files / 'new', tmp_path / 'set')
  config = settled(tiny_head_config(tmp_path / 'set'), tmp_path)
  train_upgrade(config, tmp_path / 'run')
  assert all(np.isfinite(leaf).all() for leaf in arrays_of(tmp_path / 'run'))
