import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from advbct_jax.models.convolution import Convolution, DepthwiseConvolution

RANDOM = np.random.default_rng(0)


def _pytorch(x, kernel, stride, weight, padding, groups=1):
  """PyTorch's outputs, and the gradients of their weighted sum."""
  x = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
  kernel = torch.tensor(kernel.transpose(3, 2, 0, 1), requires_grad=True)
  padded = torch.nn.functional.pad(x, padding * 2)
  y = torch.nn.functional.conv2d(padded, kernel, stride=stride, groups=groups)
  (y * torch.tensor(weight.transpose(0, 3, 1, 2))).sum().backward()
  return (
    y.detach().numpy().transpose(0, 2, 3, 1),
    x.grad.numpy().transpose(0, 2, 3, 1),
    kernel.grad.numpy().transpose(2, 3, 1, 0),
  )


def _require_same_as_pytorch(module, x, kernel, padding, groups=1):
  size, stride = module.size, module.stride
  sides = [(side + sum(padding) - size) // stride + 1 for side in x.shape[1:3]]
  shape = (len(x), *sides, kernel.shape[-1])
  weight = RANDOM.normal(size=shape).astype(np.float32)

  def weighted_sum(x, kernel):
    y = module.apply({'params': {'kernel': kernel}}, x)
    return (y * weight).sum(), y

  differentiate = jax.jit(jax.grad(weighted_sum, argnums=(0, 1), has_aux=True))
  gradients, y = differentiate(x, kernel)
  wanted = _pytorch(x, kernel, stride, weight, padding, groups)
  for ours, theirs in zip((y, *gradients), wanted, strict=True):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


# An odd and an even side: the last output of a stride of 2 differs.
SHAPE = (2, 9, 6, 3)


@pytest.mark.parametrize('as_patches', [True, False])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize(
  ('size', 'padding'),
  [(1, None), (3, None), (7, None), (3, (0, 1)), (5, (1, 2)), (3, (0, 0))],
)
def test_values_and_gradients_are_those_of_pytorch(
  size, padding, stride, as_patches
):
  x = RANDOM.normal(size=SHAPE).astype(np.float32)
  kernel = RANDOM.normal(size=(size, size, 3, 5)).astype(np.float32)
  module = Convolution(5, size, stride, padding, as_patches=as_patches)
  half = size // 2
  _require_same_as_pytorch(module, x, kernel, padding or (half, half))


@pytest.mark.parametrize('as_shifts', [True, False])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize(
  ('size', 'padding'), [(3, (1, 1)), (5, (2, 2)), (3, (0, 1)), (5, (1, 2))]
)
def test_a_channel_alone_is_convolved_as_pytorch_does(
  size, padding, stride, as_shifts
):
  x = RANDOM.normal(size=SHAPE).astype(np.float32)
  kernel = RANDOM.normal(size=(size, size, 1, 3)).astype(np.float32)
  module = DepthwiseConvolution(size, stride, padding, as_shifts=as_shifts)
  _require_same_as_pytorch(module, x, kernel, padding, groups=3)


def _takes_patches(side, stride, size=3):
  return _has_no_convolution(Convolution(2, size, stride), side)


def _has_no_convolution(module, side):
  x = jnp.zeros((1, side, side, 2))
  variables = jax.eval_shape(module.init, jax.random.key(0), x)
  program = jax.make_jaxpr(module.apply)(variables, x)
  return 'conv_general_dilated' not in str(program)


def test_only_a_cpu_takes_patches_and_only_where_they_win(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu')
  assert not _takes_patches(side=8, stride=1)
  assert _takes_patches(side=7, stride=1)
  assert _takes_patches(side=8, stride=2)
  assert _takes_patches(side=64, stride=1, size=1)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert not _takes_patches(side=64, stride=1, size=1)
  assert not _takes_patches(side=7, stride=1)
  assert not _takes_patches(side=8, stride=2)


def test_only_a_cpu_shifts_channels(monkeypatch):
  module = DepthwiseConvolution(3, 1, (1, 1))
  monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu')
  assert _has_no_convolution(module, side=8)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert not _has_no_convolution(module, side=8)


@pytest.mark.parametrize('as_shifts', [True, False])
def test_channels_alone_are_computed_in_bfloat16_and_kept_in_float32(as_shifts):
  module = DepthwiseConvolution(3, 1, (1, 1), jnp.bfloat16, as_shifts)
  y, variables = module.init_with_output(
    jax.random.key(0), jnp.ones((1, 4, 4, 3))
  )
  assert y.dtype == jnp.bfloat16
  assert variables['params']['kernel'].dtype == jnp.float32


@pytest.mark.parametrize('as_patches', [True, False])
def test_bfloat16_is_what_it_computes_in_and_not_what_it_keeps(as_patches):
  module = Convolution(2, dtype=jnp.bfloat16, as_patches=as_patches)
  y, variables = module.init_with_output(
    jax.random.key(0), jnp.ones((1, 4, 4, 3))
  )
  assert y.dtype == jnp.bfloat16
  assert variables['params']['kernel'].dtype == jnp.float32


def test_kernels_are_drawn_as_pytorchs_resnets_draw_theirs():
  # He et al.: a variance of 2/(size² · output channels).
  variables = Convolution(64, 3).init(
    jax.random.key(0), jnp.ones((1, 1, 1, 64))
  )
  kernel = variables['params']['kernel']
  assert float(kernel.var()) == pytest.approx(2 / (9 * 64), rel=0.03)
  # A normal distribution, not a truncated one.
  assert float(jnp.abs(kernel).max()) > 3 * (2 / (9 * 64)) ** 0.5


def test_kernels_of_a_channel_alone_fan_out_to_one():
  module = DepthwiseConvolution(3, 1, (1, 1))
  variables = module.init(jax.random.key(0), jnp.ones((1, 3, 3, 4096)))
  kernel = variables['params']['kernel']
  assert kernel.shape == (3, 3, 1, 4096)
  assert float(kernel.var()) == pytest.approx(2 / 9, rel=0.03)
