"""Several devices: the only place that maps over them.

`jax.shard_map` and `jax.pmap` map a pure function over the axis `AXIS`. The
state is replicated, not stacked, but for what `class_shards` has cut; the batch
is cut along its first axis.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AXIS = 'batch'

P = jax.sharding.PartitionSpec


def map_step(
  step: Callable[..., Any], spec: Callable[[Any], Any] = lambda state: P()
) -> Callable[..., Any]:
  """Compiles `step(state, batch, old, key)` for all local devices.

  Args:
    step: returns (state, metrics), the metrics the same on every device.
    spec: says of a state how it lies on the devices, as `jax.shard_map` is
      told; by default the same on every device.

  Returns:
    The mapped step. It takes batches as `shard` makes them and gives back
    state and metrics without a device axis; the old state is given up.
  """

  def step_on_device(state: Any, batch: Any, *constants: Any) -> Any:
    return step(state, jax.tree.map(lambda x: x[0], batch), *constants)

  def mapped_step(state: Any, batch: Any, old: Any, key: Any) -> Any:
    lies = spec(state)
    return jax.shard_map(
      step_on_device,
      mesh=mesh(),
      in_specs=(lies, P(AXIS), P(), P()),
      out_specs=(lies, P()),
      # Derivatives through collectives are then of the sum over the devices,
      # as they are under `jax.pmap`.
      check_vma=False,
    )(state, batch, old, key)

  return jax.jit(mapped_step, donate_argnums=0)


def map_apply(apply: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """Compiles `apply(variables, batch)` for all local devices.

  Args:
    apply: maps [B, …] to [B, …], row by row.

  Returns:
    A function of variables and a batch cut by `shard`, with stacked results.
  """
  return jax.pmap(apply, axis_name=AXIS, in_axes=(None, 0))


def replicate(tree: Any) -> Any:
  """Puts a copy of every array on every local device.

  A mapped step that starts from such a state compiles once; from arrays on one
  device it would compile a second time for its own output.
  """
  everywhere = jax.sharding.NamedSharding(mesh(), P())
  return jax.device_put(tree, everywhere)


def mesh() -> jax.sharding.Mesh:
  """All local devices along `AXIS`."""
  return jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))


def shard(batch: Any) -> Any:
  """Cuts the first axis of every array, and puts a piece on each local device.

  Args:
    batch: a tree of [B, …] arrays.

  Returns:
    The same of [devices, B / devices, …] arrays.
  """
  devices = mesh().size
  pieces = jax.sharding.NamedSharding(mesh(), P(AXIS))
  return jax.device_put(
    jax.tree.map(
      lambda x: x.reshape(devices, len(x) // devices, *x.shape[1:]), batch
    ),
    pieces,
  )


def gather(
  x: jax.Array, axis_name: str | None = AXIS, *, differentiable: bool = False
) -> jax.Array:
  """Brings together what all devices have.

  Args:
    x: [B, …] on this device.
    axis_name: the mapped axis, None outside of any.
    differentiable: whether a gradient goes through it, to the device that has
      the value.

  Returns:
    [devices·B, …], the same on every device.
  """
  if not differentiable:
    x = jax.lax.stop_gradient(x)
  if axis_name is None:
    return x
  return jax.lax.all_gather(x, axis_name, tiled=True)


def global_mean(
  values: jax.Array, mask: jax.Array | None = None, axis_name: str | None = AXIS
) -> jax.Array:
  """The share of this device in a mean over the global batch.

  Averaged over the devices (`jax.lax.pmean`) the shares give the mean over all
  values whose mask is set, whichever devices they lie on, and the averaged
  gradients give the gradient of that mean. 0 where no mask is set.

  Args:
    values: [B] or [B, …] the values on this device.
    mask: of the same shape, which of them count; None counts all.
    axis_name: the mapped axis, None outside of any.

  Returns:
    A scalar.
  """
  if mask is None:
    mask = jnp.ones_like(values, bool)
  count = mask.sum().astype(values.dtype)
  if axis_name is not None:
    count = jax.lax.pmean(count, axis_name)
  total = jnp.where(mask, values, 0).sum()
  return total / jnp.where(count > 0, count, 1)
