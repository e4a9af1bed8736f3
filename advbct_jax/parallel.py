"""Several devices: the only place that maps over them.

`jax.pmap` maps a pure function over the axis `AXIS`. The state is replicated,
not stacked (`in_axes=None`), and the batch is cut along its first axis.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AXIS = 'batch'


def map_step(step: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles `step(state, batch, old, key)` for all local devices.

  Args:
    step: returns (state, metrics), each the same on every device.

  Returns:
    The mapped step. It takes batches as `shard` makes them and gives back
    state and metrics without a device axis; the old state is given up.
  """
  return jax.pmap(
    step,
    axis_name=AXIS,
    in_axes=(None, 0, None, None),
    out_axes=(None, None),
    donate_argnums=0,
  )


def map_sharded_step(
  step: Callable[..., Any], spec: Callable[[Any], Any]
) -> Callable[..., Any]:
  """Compiles a step as `map_step` does, with a part of its state cut.

  Args:
    step: as of `map_step`, but for its state, of which it takes and gives what
      lies on its device.
    spec: says of a state how it lies on the devices, as `jax.shard_map` is
      told.

  Returns:
    As `map_step`; it takes states as they lie by `sharding`.
  """

  def step_on_device(state: Any, batch: Any, *constants: Any) -> Any:
    return step(state, jax.tree.map(lambda x: x[0], batch), *constants)

  def mapped_step(state: Any, batch: Any, old: Any, key: Any) -> Any:
    everywhere = jax.sharding.PartitionSpec()
    cut = jax.sharding.PartitionSpec(AXIS)
    return jax.shard_map(
      step_on_device,
      mesh=_local_mesh(),
      in_specs=(spec(state), cut, everywhere, everywhere),
      out_specs=(spec(state), everywhere),
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
  everywhere = jax.sharding.NamedSharding(
    _local_mesh(), jax.sharding.PartitionSpec()
  )
  return jax.device_put(tree, everywhere)


def sharding(spec: jax.sharding.PartitionSpec) -> jax.sharding.NamedSharding:
  """How an array lies on the local devices."""
  return jax.sharding.NamedSharding(_local_mesh(), spec)


def _local_mesh() -> jax.sharding.Mesh:
  return jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))


def shard(batch: Any) -> Any:
  """Cuts the first axis of every array, and puts a piece on each local device.

  Args:
    batch: a tree of [B, …] arrays.

  Returns:
    The same of [devices, B / devices, …] arrays.
  """
  devices = jax.local_device_count()
  pieces = jax.sharding.NamedSharding(
    _local_mesh(), jax.sharding.PartitionSpec(AXIS)
  )
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
