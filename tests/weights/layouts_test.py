import numpy as np
import pytest

from advbct_jax.weights.layouts import (
  OPENCOMPATIBLE,
  PUBLISHED,
  TIMM,
  find_layout,
  pytorch_shape,
  to_flax,
  to_pytorch,
)

RESNET = ['conv1.weight', 'layer1.0.conv1.weight']


@pytest.mark.parametrize(
  ('names', 'layout'),
  [
    (RESNET, TIMM),
    (['convnet.conv1.weight'], PUBLISHED),
    (['conv_stem.weight', 'blocks.0.0.conv_dw.weight'], TIMM),
    (['backbone.conv1.weight', 'fc_emb.weight'], OPENCOMPATIBLE),
  ],
)
def test_a_layout_is_told_by_its_names(names, layout):
  assert find_layout(names) == layout


def test_variants_of_a_layout_keep_their_own_names():
  bare = find_layout([*RESNET, 'projection_dim.weight'])
  assert bare.name == 'published'
  assert bare.pytorch_name('params/encoder/backbone/conv1/kernel') == RESNET[0]
  early = find_layout(['fc_emb.weight', 'fc_classifier.weight'])
  assert early.pytorch_name('params/classifier/kernel') == (
    'fc_classifier.weight'
  )


def test_a_layout_may_be_of_one_module_among_others():
  layout = PUBLISHED.under('model.')
  assert layout.pytorch_name('params/encoder/bn/scale') == 'model.bn.weight'
  assert layout.pytorch_name('params/encoder/backbone/conv1/kernel') == (
    'model.convnet.conv1.weight'
  )


PACKAGE_BLOCKS = [f'_blocks.{n}._depthwise_conv.weight' for n in range(21)]


@pytest.mark.parametrize(
  ('names', 'name', 'before'),
  [
    ([], 'efficientnet_pytorch', ''),
    (['projection_dim.weight'], 'published', 'convnet.'),
    (['fc_emb.weight'], 'opencompatible', 'backbone.'),
  ],
)
def test_blocks_that_are_numbered_throughout_find_their_stage(
  names, name, before
):
  inside = ['_conv_stem.weight', *PACKAGE_BLOCKS]
  layout = find_layout([*names, *(before + below for below in inside)])
  assert layout.name == name
  assert layout.stage_sizes == (1, 3, 3, 4, 4, 5, 1)
  for ours, theirs in {
    'conv_stem/kernel': '_conv_stem.weight',
    'bn1/scale': '_bn0.weight',
    'blocks_0_0/bn1/mean': '_blocks.0._bn1.running_mean',
    'blocks_0_0/conv_pw/kernel': '_blocks.0._project_conv.weight',
    'blocks_1_0/conv_pw/kernel': '_blocks.1._expand_conv.weight',
    'blocks_2_1/bn1/bias': '_blocks.5._bn0.bias',
    'blocks_6_0/conv_pwl/kernel': '_blocks.20._project_conv.weight',
    'bn2/var': '_bn1.running_var',
    # Of another backbone, which these weights have nothing for.
    'layer1_0/conv1/kernel': 'layer1_0.conv1.weight',
  }.items():
    found = layout.pytorch_name(f'params/encoder/backbone/{ours}')
    assert found == before + theirs


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (2, 3), (1, 3, 2), (3,), ()])
def test_axes_go_there_and_back_without_a_copy(shape):
  tensor = np.random.default_rng(0).normal(size=shape)
  there = to_flax(tensor)
  assert np.shares_memory(there, tensor)
  np.testing.assert_array_equal(to_pytorch(there), tensor)
  assert pytorch_shape(there.shape) == shape


def test_a_kernel_has_its_inputs_before_its_outputs():
  assert to_flax(np.zeros((8, 3, 5, 7))).shape == (5, 7, 3, 8)
