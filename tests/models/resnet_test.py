from functools import partial
import math

import jax
import jax.numpy as jnp
import pytest

from advbct_jax.models.resnet import (
  RESNETS,
  BasicBlock,
  BottleneckBlock,
  ResNet,
)


def _outline(module, side, train=False):
  """Shapes and dtypes of outputs and variables; nothing is computed."""
  return jax.eval_shape(
    partial(module.init_with_output, train=train),
    jax.random.key(0),
    jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32),
  )


def _layer_shapes(module, side):
  """What every layer gives, by its path."""
  _, variables = _outline(module, side)
  _, state = jax.eval_shape(
    partial(
      module.apply,
      train=False,
      capture_intermediates=True,
      mutable=['intermediates'],
    ),
    variables,
    jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32),
  )
  leaves = jax.tree_util.tree_leaves_with_path(state['intermediates'])
  return {
    '/'.join(key.key for key in path[:-2]): leaf.shape for path, leaf in leaves
  }


# torchvision's counts less those of its 1000-class fc layer.
@pytest.mark.parametrize(
  ('name', 'features', 'parameters'),
  [
    ('resnet18', 512, 11_689_512 - 513_000),
    ('resnet34', 512, 21_797_672 - 513_000),
    ('resnet50', 2048, 25_557_032 - 2_049_000),
    ('resnet101', 2048, 44_549_160 - 2_049_000),
  ],
)
def test_backbones_have_as_many_parameters_as_torchvisions(
  name, features, parameters
):
  pooled, variables = _outline(RESNETS[name](), 64)
  assert pooled.shape == (2, features)
  leaves = jax.tree.leaves(variables['params'])
  assert sum(math.prod(leaf.shape) for leaf in leaves) == parameters


def test_a_bottleneck_strides_in_its_3x3_convolution():
  shapes = _layer_shapes(ResNet((1, 2), BottleneckBlock, width=1 / 16), 64)
  assert shapes['layer2_0/conv1'] == (2, 16, 16, 8)
  assert shapes['layer2_0/conv2'] == (2, 8, 8, 8)
  assert shapes['layer2_0/conv3'] == (2, 8, 8, 32)
  assert shapes['layer2_0/downsample_conv'] == (2, 8, 8, 32)
  assert 'layer2_1/downsample_conv' not in shapes
  # The first stage keeps the side, and still projects: it widens by 4.
  assert shapes['layer1_0/downsample_conv'] == (2, 16, 16, 16)


def test_a_basic_block_strides_in_its_first_convolution():
  shapes = _layer_shapes(ResNet((1, 2), BasicBlock, width=1 / 16), 64)
  assert shapes['layer2_0/conv1'] == (2, 8, 8, 8)
  assert shapes['layer2_0/downsample_conv'] == (2, 8, 8, 8)
  assert 'layer1_0/downsample_conv' not in shapes


@pytest.mark.parametrize(
  ('stem', 'after_conv1', 'after_stem', 'kernel'),
  [('imagenet', 32, 16, 7), ('small', 32, 32, 3)],
)
def test_the_imagenet_stem_divides_the_side_by_4_and_the_small_one_by_2(
  stem, after_conv1, after_stem, kernel
):
  module = ResNet((1,), BasicBlock, width=1 / 16, stem=stem)
  shapes = _layer_shapes(module, 64)
  assert shapes['conv1'] == (2, after_conv1, after_conv1, 4)
  assert shapes['layer1_0'] == (2, after_stem, after_stem, 4)
  _, variables = _outline(module, 64)
  kernel_shape = variables['params']['conv1']['kernel'].shape
  assert kernel_shape == (kernel, kernel, 3, 4)


def test_width_scales_every_channel_count():
  pooled, variables = _outline(RESNETS['resnet18'](width=0.5), 64)
  assert pooled.shape == (2, 256)
  assert variables['params']['conv1']['kernel'].shape == (7, 7, 3, 32)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
  module = RESNETS['resnet50'](dtype=jnp.bfloat16)
  pooled, variables = _outline(module, 64, train=True)
  assert pooled.dtype == jnp.bfloat16
  kept = {leaf.dtype for leaf in jax.tree.leaves(variables)}
  assert kept == {jnp.dtype('float32')}
