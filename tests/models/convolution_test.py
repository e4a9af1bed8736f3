import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from advbct_jax.models.convolution import Convolution

RANDOM = np.random.default_rng(0)


def _pytorch(x, kernel, stride, weight):
  """PyTorch's outputs, and the gradients of their weighted sum."""
  x = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
  kernel = torch.tensor(kernel.transpose(3, 2, 0, 1), requires_grad=True)
  y = torch.nn.functional.conv2d(
    x, kernel, stride=stride, padding=kernel.shape[-1] // 2
  )
  (y * torch.tensor(weight.transpose(0, 3, 1, 2))).sum().backward()
  return (
    y.detach().numpy().transpose(0, 2, 3, 1),
    x.grad.numpy().transpose(0, 2, 3, 1),
    kernel.grad.numpy().transpose(2, 3, 1, 0),
  )


@pytest.mark.parametrize('as_patches', [True, False])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [1, 3, 7])
def test_values_and_gradients_are_those_of_pytorch(size, stride, as_patches):
  # An odd and an even side: the last output of a stride of 2 differs.
  x = RANDOM.normal(size=(2, 9, 6, 3)).astype(np.float32)
  kernel = RANDOM.normal(size=(size, size, 3, 5)).astype(np.float32)
  shape = (2, -(-9 // stride), -(-6 // stride), 5)
  weight = RANDOM.normal(size=shape).astype(np.float32)
  module = Convolution(5, size, stride, as_patches=as_patches)

  def weighted_sum(x, kernel):
    y = module.apply({'params': {'kernel': kernel}}, x)
    return (y * weight).sum(), y

  differentiate = jax.jit(jax.grad(weighted_sum, argnums=(0, 1), has_aux=True))
  gradients, y = differentiate(x, kernel)
  for found, wanted in zip(
    (y, *gradients), _pytorch(x, kernel, stride, weight), strict=True
  ):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def _takes_patches(side, stride):
  module = Convolution(2, 3, stride)
  x = jnp.zeros((1, side, side, 2))
  variables = jax.eval_shape(module.init, jax.random.key(0), x)
  program = jax.make_jaxpr(module.apply)(variables, x)
  return 'conv_general_dilated' not in str(program)


def test_only_a_cpu_takes_patches_and_only_where_they_win(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu')
  assert not _takes_patches(side=8, stride=1)
  assert _takes_patches(side=7, stride=1)
  assert _takes_patches(side=8, stride=2)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert not _takes_patches(side=7, stride=1)
  assert not _takes_patches(side=8, stride=2)


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
