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
  unwrap,
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


@pytest.mark.parametrize(
  'prefix',
  ['', 'module.', '_orig_mod.module.', 'model.', 'backbone.', 'new_model.'],
)
def test_wrappers_are_taken_off(prefix):
  wrapped = {prefix + name: None for name in RESNET}
  assert unwrap(wrapped) == ({name: None for name in RESNET}, [])


def test_a_prefix_that_not_all_names_have_stays():
  tensors = {'backbone.conv1.weight': 1, 'fc_emb.weight': 2}
  assert unwrap(tensors) == (tensors, [])


def test_of_an_old_and_a_new_model_the_new_one_is_taken():
  tensors = {
    'module.new_model.conv1.weight': 1,
    'module.old_model.conv1.weight': 2,
    'module.old_classifier.weight': 3,
  }
  assert unwrap(tensors) == (
    {'conv1.weight': 1},
    ['old_model.conv1.weight', 'old_classifier.weight'],
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
