import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from advbct_jax.errors import InputError
from advbct_jax.models.encoder import Encoder
from advbct_jax.models.resnet import BottleneckBlock, ResNet
from advbct_jax.weights.files import read_tensors
from advbct_jax.weights.loading import load_encoder_variables
from tests.goldens.weights import draw


def _norm(name, channels):
  leaves = ('weight', 'bias', 'running_mean', 'running_var')
  shapes = {f'{name}.{leaf}': (channels,) for leaf in leaves}
  return shapes | {f'{name}.num_batches_tracked': ()}


# A state dict of one bottleneck: 4 channels, 16 features.
BACKBONE = {
  'conv1.weight': (4, 3, 3, 3),
  **_norm('bn1', 4),
  'layer1.0.conv1.weight': (4, 4, 1, 1),
  **_norm('layer1.0.bn1', 4),
  'layer1.0.conv2.weight': (4, 4, 3, 3),
  **_norm('layer1.0.bn2', 4),
  'layer1.0.conv3.weight': (16, 4, 1, 1),
  **_norm('layer1.0.bn3', 16),
  'layer1.0.downsample.0.weight': (16, 4, 1, 1),
  **_norm('layer1.0.downsample.1', 16),
}
EMBEDDING = {'projection_dim.weight': (8, 16), **_norm('bn', 8)}
# What files bring beside an encoder.
OTHERS = {
  'fc.weight': (1000, 16),
  'fc.bias': (1000,),
  'head.fc.weight': (5, 16),
  'projection_cls.weight': (5, 8),
  'discriminator.d_fc1.weight': (100, 8),
  'eboundary.weight': (5, 1),
}


def _tensors(shapes):
  return draw(list(shapes), list(shapes.values()), seed=0)


def _published(shapes):
  return {f'convnet.{name}': shape for name, shape in shapes.items()}


@pytest.fixture(scope='module')
def fresh():
  encoder = Encoder(ResNet((1,), BottleneckBlock, 1 / 16, 'small'), dimension=8)
  shapes = jax.eval_shape(
    lambda key, images: encoder.init(key, images, train=False),
    jax.random.key(0),
    jnp.zeros((1, 16, 16, 3)),
  )
  return jax.tree.map(lambda leaf: np.full(leaf.shape, 7, leaf.dtype), shapes)


def _refusal(tensors, fresh):
  with pytest.raises(InputError) as refusal:
    load_encoder_variables(tensors, fresh, 'some.safetensors')
  return str(refusal.value)


@pytest.mark.parametrize('rename', [dict, _published])
def test_a_whole_encoder_is_loaded_name_by_name(fresh, rename):
  tensors = _tensors(rename(BACKBONE) | EMBEDDING | OTHERS)
  variables, left_fresh = load_encoder_variables(tensors, fresh, 'some')
  assert left_fresh == []
  assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, fresh)
  prefix = 'convnet.' if rename is _published else ''
  params, stats = variables['params'], variables['batch_stats']
  block = params['backbone']['layer1_0']
  np.testing.assert_array_equal(
    block['conv2']['kernel'][2, 0, 3, 1],
    tensors[f'{prefix}layer1.0.conv2.weight'][1, 3, 2, 0],
  )
  np.testing.assert_array_equal(
    block['downsample_bn']['scale'],
    tensors[f'{prefix}layer1.0.downsample.1.weight'],
  )
  np.testing.assert_array_equal(
    stats['backbone']['bn1']['var'], tensors[f'{prefix}bn1.running_var']
  )
  np.testing.assert_array_equal(
    params['projection']['kernel'], tensors['projection_dim.weight'].T
  )
  np.testing.assert_array_equal(params['bn']['bias'], tensors['bn.bias'])
  np.testing.assert_array_equal(stats['bn']['mean'], tensors['bn.running_mean'])
  assert not any((leaf == 7).any() for leaf in jax.tree.leaves(variables))


def test_weights_of_a_backbone_leave_the_embedding_fresh_and_say_so(fresh):
  tensors = _tensors(BACKBONE | OTHERS)
  variables, left_fresh = load_encoder_variables(tensors, fresh, 'some')
  assert sorted(left_fresh) == [
    'batch_stats/bn/mean',
    'batch_stats/bn/var',
    'params/bn/bias',
    'params/bn/scale',
    'params/projection/kernel',
  ]
  assert (variables['params']['projection']['kernel'] == 7).all()
  np.testing.assert_array_equal(
    variables['params']['backbone']['bn1']['bias'], tensors['bn1.bias']
  )


@pytest.mark.parametrize(
  ('wrap', 'beside'),
  [
    ('', {'fc.0.weight': (8, 16), **_norm('fc.1', 8)}),
    ('', {'fc.0.weight': (8, 16), 'fc.0.bias': (8,), **_norm('fc.1', 8)}),
    ('trunk/', {'embedder/0.weight': (8, 16), **_norm('embedder/1', 8)}),
    ('model.', {'neck.0.weight': (8, 16), **_norm('neck.1', 8)}),
  ],
)
def test_an_embedding_layer_that_the_config_wants_is_loaded(
  fresh, wrap, beside
):
  shapes = {f'{wrap}{name}': shape for name, shape in BACKBONE.items()}
  tensors = _tensors(shapes | beside | {'arc.weight': (99, 8)})
  variables, left_fresh = load_encoder_variables(tensors, fresh, 'some')
  assert left_fresh == []
  np.testing.assert_array_equal(
    variables['params']['projection']['kernel'], tensors[next(iter(beside))].T
  )


@pytest.mark.parametrize(
  'beside',
  [
    {'fc.weight': (8, 16), 'fc.bias': (8,)},
    {'fc.0.weight': (4, 16), **_norm('fc.1', 4)},
    {'criterion.weight': (5, 16)},
    {'head.0.weight': (9, 16), 'head.2.weight': (4, 9)},
    _norm('bottleneck', 16),
  ],
  ids=lambda shapes: next(iter(shapes)),
)
def test_an_embedding_layer_of_another_form_is_drawn_afresh(fresh, beside):
  shapes = {f'model.{name}': shape for name, shape in BACKBONE.items()}
  tensors = _tensors(shapes | beside)
  variables, left_fresh = load_encoder_variables(tensors, fresh, 'some')
  assert len(left_fresh) == 5
  np.testing.assert_array_equal(
    variables['params']['backbone']['bn1']['bias'], tensors['model.bn1.bias']
  )


@pytest.mark.parametrize(
  ('names', 'module'),
  [
    (['layer1.0.se.weight', 'layer1.0.se.bias'], 'layer1.0.se'),
    (['conv1.bias'], 'conv1.bias'),
    (['pool.p', 'layer5.0.a', 'layer5.1.b'], 'layer5,pool'),
    ([f'{letter}.x' for letter in 'abcdef'], 'NAMES'),
  ],
)
def test_what_is_left_over_is_refused_with_the_flag_that_lets_it_through(
  fresh, names, module
):
  tensors = _tensors(BACKBONE | dict.fromkeys(names, (3,)))
  assert f'from-pytorch --ignore={module}\n' in _refusal(tensors, fresh)


def test_the_given_variables_are_left_as_they_were(fresh):
  load_encoder_variables(_tensors(BACKBONE), fresh, 'some')
  assert all((leaf == 7).all() for leaf in jax.tree.leaves(fresh))


def test_half_weights_are_loaded_as_float32(fresh):
  tensors = {
    name: tensor.astype(np.float16)
    for name, tensor in _tensors(BACKBONE).items()
  }
  variables, _ = load_encoder_variables(tensors, fresh, 'some')
  kinds = {leaf.dtype for leaf in jax.tree.leaves(variables)}
  assert kinds == {np.dtype('float32')}


def test_weights_that_are_missing_left_over_and_misshapen_are_each_named(fresh):
  tensors = _tensors(BACKBONE | EMBEDDING)
  del tensors['layer1.0.bn2.running_mean'], tensors['bn.bias']
  tensors['layer1.1.conv1.weight'] = np.zeros((4, 16, 1, 1), np.float32)
  tensors['conv1.weight'] = np.zeros((4, 3, 7, 7), np.float32)
  assert _refusal(tensors, fresh) == (
    'some.safetensors: these weights are not those of the configured encoder.\n'
    '  missing:\n'
    '    bn.bias\n'
    '    layer1.0.bn2.running_mean\n'
    '  left over:\n'
    '    layer1.1.conv1.weight\n'
    '    if embeddings do not depend on these: from-pytorch --ignore=layer1.1\n'
    '  of another shape:\n'
    '    conv1.weight is (4, 3, 7, 7), wanted (4, 3, 3, 3)\n'
    'Set config.model.architecture, width, stem, pooling, head and dimension '
    "to those of the weights, and config.data.image_size for a ViT's."
  )


def test_half_an_embedding_layer_is_refused(fresh):
  tensors = _tensors(BACKBONE | _norm('bn', 8))
  assert 'left over:\n    bn.bias\n' in _refusal(tensors, fresh)
  tensors = _tensors(BACKBONE | {'projection_dim.weight': (8, 16)})
  assert 'missing:\n    bn.bias\n' in _refusal(tensors, fresh)


def test_of_many_names_ten_are_listed_and_all_are_counted(fresh):
  message = _refusal(_tensors({'conv1.weight': (4, 3, 3, 3)}), fresh)
  names = [line for line in message.splitlines() if line.startswith('    ')]
  assert len(names) == 11
  assert names[-1] == '    … (24 in all)'


def test_bfloat16_weights_are_read_as_the_numbers_that_they_are(
  tmp_path, fresh
):
  path = tmp_path / 'weights.safetensors'
  tensors = {
    name: tensor.astype(ml_dtypes.bfloat16)
    for name, tensor in _tensors(BACKBONE).items()
  }
  safetensors.numpy.save_file(tensors, path)
  variables, _ = load_encoder_variables(read_tensors(path), fresh, 'some')
  np.testing.assert_array_equal(
    variables['params']['backbone']['bn1']['bias'],
    tensors['bn1.bias'].astype(np.float32),
  )


def test_opencompatible_weights_fill_an_encoder_with_a_linear_head(fresh):
  tensors = _tensors(
    {f'module.backbone.{name}': shape for name, shape in BACKBONE.items()}
    | {
      'module.fc_emb.weight': (8, 16),
      'module.fc_emb.bias': (8,),
      'module.fc_classify.weight': (5, 8),
    }
  )
  params = dict(fresh['params'])
  del params['bn']
  params['projection'] = {**params['projection'], 'bias': np.zeros(8)}
  stats = {'backbone': fresh['batch_stats']['backbone']}
  variables, left_fresh = load_encoder_variables(
    tensors, {'params': params, 'batch_stats': stats}, 'some'
  )
  assert not left_fresh
  np.testing.assert_array_equal(
    variables['params']['projection']['bias'], tensors['module.fc_emb.bias']
  )
  np.testing.assert_array_equal(
    variables['params']['backbone']['conv1']['kernel'][0, 1, 2],
    tensors['module.backbone.conv1.weight'][:, 2, 0, 1],
  )


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(fresh, value):
  tensors = _tensors(BACKBONE)
  tensors['layer1.0.bn2.running_var'][1] = value
  message = _refusal(tensors, fresh)
  assert 'NaN or infinite in places:\n    layer1.0.bn2.running_var\n' in message
  assert 'conv1' not in message


def test_weights_in_whole_numbers_are_refused(fresh):
  tensors = _tensors(BACKBONE)
  tensors['conv1.weight'] = tensors['conv1.weight'].astype(np.int8)
  message = _refusal(tensors, fresh)
  assert 'no floating-point numbers:\n    conv1.weight is int8\n' in message
