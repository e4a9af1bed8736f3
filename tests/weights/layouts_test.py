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


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (2, 3), (1, 3, 2), (3,), ()])
def test_axes_go_there_and_back_without_a_copy(shape):
  tensor = np.random.default_rng(0).normal(size=shape)
  there = to_flax(tensor)
  assert np.shares_memory(there, tensor)
  np.testing.assert_array_equal(to_pytorch(there), tensor)
  assert pytorch_shape(there.shape) == shape


def test_a_kernel_has_its_inputs_before_its_outputs():
  assert to_flax(np.zeros((8, 3, 5, 7))).shape == (5, 7, 3, 8)
