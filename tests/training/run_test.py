"""What a run makes of its config: where it starts, and what it refuses."""

import dataclasses

import jax
import numpy as np
import pytest
import safetensors.numpy

from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import load_encoder
from advbct_jax.training.run import Run
from advbct_jax.training.start import Start
from advbct_jax.training.training_images import open_training_images
from tests.training.small_runs import independent_run, noise_run

# The tiny encoder's state dict in PyTorch.
NORM = ('weight', 'bias', 'running_mean', 'running_var')
TENSORS = {
  'conv1.weight': (4, 3, 3, 3),
  **{f'bn1.{leaf}': (4,) for leaf in NORM},
  'layer1.0.conv1.weight': (4, 4, 3, 3),
  **{f'layer1.0.bn1.{leaf}': (4,) for leaf in NORM},
  'layer1.0.conv2.weight': (4, 4, 3, 3),
  **{f'layer1.0.bn2.{leaf}': (4,) for leaf in NORM},
  'projection_dim.weight': (8, 4),
  **{f'bn.{leaf}': (8,) for leaf in NORM},
}


def write_weights(path, shapes):
  random = np.random.default_rng(0)
  tensors = {
    name: random.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }
  safetensors.numpy.save_file(tensors, path)
  return tensors


def test_a_run_starts_from_the_seed(config):
  first, again = (noise_run(config).initial_state() for _ in range(2))
  config.seed = 1
  other = noise_run(config).initial_state()

  kernels = [
    np.asarray(state.params['encoder']['backbone']['conv1']['kernel'])
    for state in (first, again, other)
  ]
  np.testing.assert_array_equal(kernels[0], kernels[1])
  assert (kernels[0] != kernels[2]).all()
  boundary = np.asarray(first.params['method']['boundary'])
  assert boundary.min() < 0 < boundary.max()
  assert np.abs(boundary).max() < 1


@pytest.mark.parametrize(
  ('kind', 'alike'), [('extended_class', True), ('extended_data', False)]
)
def test_encoders_of_the_same_classes_dont_share_their_draws(
  config, kind, alike
):
  config.data.split.kind = kind
  states = []
  for config.data.part in ('old', 'all'):
    states.append(independent_run(config).initial_state())

  old, new = (
    np.asarray(state.params['encoder']['backbone']['conv1']['kernel'])
    for state in states
  )
  assert (old == new).all() if alike else (old != new).all()


def test_a_run_can_start_from_the_old_weights_exactly(config, finished, capsys):
  old = load_encoder(finished / 'old')
  config.model.init_weights = 'old'
  state = noise_run(config, old).initial_state()

  assert "starts from the old encoder's weights" in capsys.readouterr().out
  jax.tree.map(
    np.testing.assert_array_equal,
    {
      'params': state.params['encoder'],
      'batch_stats': state.batch_stats['encoder'],
    },
    old.variables,
  )


def test_old_weights_of_other_shapes_are_refused(config, finished):
  config.model.init_weights = 'old'
  old = load_encoder(finished / 'old')
  wide = jax.tree.map(lambda x: np.concatenate([x, x]), old.variables)
  run = noise_run(config, dataclasses.replace(old, variables=wide))
  with pytest.raises(InputError, match='weights are of other shapes'):
    run.initial_state()


@pytest.mark.parametrize('build', [noise_run, independent_run])
def test_old_weights_without_an_old_encoder_are_refused(config, build):
  config.model.init_weights = 'old'
  with pytest.raises(
    InputError, match='no old encoder with weights; wanted: a'
  ):
    build(config).initial_state()


@pytest.mark.parametrize('part', ['old', 'all'])
def test_a_class_is_known_by_its_place_whatever_part_is_trained_on(
  config, part
):
  images = open_training_images(config, check=False)
  data = images.training_set(part)
  landmarks = images.image_set.labels
  places = np.searchsorted(np.unique(landmarks), landmarks)
  found = Run(config, data, None).method(None).places
  assert len(found) == data.classes
  np.testing.assert_array_equal(
    found[data.labels[data.rows]], places[data.rows]
  )
  assert (found != np.arange(len(found))).any()


def test_a_fixed_classifier_takes_none_from_a_start(config):
  config.method, config.hoc.vertices = 'hoc', 9
  state = noise_run(config).initial_state()
  start = Start(
    'others', {'encoder': state.params['encoder'], 'classifier': np.ones(2)}, {}
  )
  assert set(start.put_into(state).params) == {'encoder'}


def test_a_run_can_start_from_a_safetensors_file(config, tmp_path, capsys):
  path = tmp_path / 'tiny.safetensors'
  tensors = write_weights(path, TENSORS)
  config.model.init_weights = str(path)
  state = noise_run(config).initial_state()

  assert f'starts from {path}; all of it' in capsys.readouterr().out
  encoder = state.params['encoder']
  np.testing.assert_array_equal(
    encoder['backbone']['layer1_0']['conv2']['kernel'],
    tensors['layer1.0.conv2.weight'].transpose(2, 3, 1, 0),
  )
  np.testing.assert_array_equal(
    encoder['projection']['kernel'], tensors['projection_dim.weight'].T
  )
  np.testing.assert_array_equal(
    state.batch_stats['encoder']['bn']['var'], tensors['bn.running_var']
  )


def test_backbone_weights_leave_the_embedding_layer_fresh(
  config, tmp_path, capsys
):
  path = tmp_path / 'imagenet.safetensors'
  tensors = write_weights(
    path,
    {
      name: shape
      for name, shape in TENSORS.items()
      if not name.startswith(('projection_dim.', 'bn.'))
    }
    | {'fc.weight': (10, 4)},
  )
  fresh = noise_run(config).initial_state().params['encoder']
  config.model.init_weights = str(path)
  started = noise_run(config).initial_state().params['encoder']

  output = capsys.readouterr().out
  assert 'freshly drawn: ' in output
  assert 'params/projection/kernel' in output
  np.testing.assert_array_equal(
    started['backbone']['conv1']['kernel'],
    tensors['conv1.weight'].transpose(2, 3, 1, 0),
  )
  np.testing.assert_array_equal(
    started['projection']['kernel'], fresh['projection']['kernel']
  )


def test_weights_of_other_shapes_are_refused_by_name(config, tmp_path):
  path = tmp_path / 'wide.safetensors'
  write_weights(path, TENSORS | {'conv1.weight': (8, 3, 3, 3)})
  config.model.init_weights = str(path)
  with pytest.raises(InputError) as refused:
    noise_run(config).initial_state()

  assert str(path) in str(refused.value)
  assert 'conv1.weight is (8, 3, 3, 3), wanted (4, 3, 3, 3)' in str(
    refused.value
  )


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('batch_size', 17, '17, more than the 16 images to train on'),
    ('data.augmentation', 'blur', "'blur'; wanted: one of none, crop_flip, a"),
    ('model.architecture', 'vgg', "'vgg'; wanted: one of resnet18, resnet34"),
    ('model.stem', 'large', "'large'; wanted: one of imagenet, small"),
    ('model.dtype', 'int8', "'int8'; wanted: auto, float32 or bfloat16"),
    ('evaluation.dtype', 'auto', "'auto'; wanted: one of float32, bfloat16"),
    ('method', 'magic', "'magic'; wanted: one of advbct, "),
  ],
)
def test_values_that_mean_nothing_are_refused_by_name(
  config, field, value, message
):
  config.update_from_flattened_dict({field: value})
  with pytest.raises(InputError, match=f'config.{field} is .*{message}'):
    noise_run(config).initial_state()


def test_epochs_hold_whole_batches(config):
  config.batch_size = 6
  config.epochs = 5
  run = noise_run(config)

  assert (run.steps_per_epoch, run.steps) == (2, 10)  # of 16 images


def test_a_batch_that_devices_cannot_share_is_refused(config, monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: 3)
  with pytest.raises(InputError, match='is 8, which 3 devices cannot share'):
    noise_run(config)


def test_classes_that_a_method_needs_whole_are_not_cut(config):
  config.method = 'nccl'
  config.shard_classes = True
  with pytest.raises(
    InputError,
    match="'nccl' cannot be cut over the devices: its queue holds the logits",
  ):
    noise_run(config)


def test_a_batch_has_the_labels_and_old_embeddings_of_its_rows(config):
  run = noise_run(config)
  batch = run.complete_batch(run.data.load(np.array([5, 0, 15])))

  np.testing.assert_array_equal(batch['label'][0], [1, 0, 3])
  np.testing.assert_array_equal(batch['row'][0], [5, 0, 15])
  np.testing.assert_array_equal(
    batch['old_embedding'][0], run.old.embeddings[[5, 0, 15]]
  )
  assert (batch['image'].shape, batch['image'].dtype) == (
    (1, 3, 16, 16, 3),
    np.uint8,
  )
