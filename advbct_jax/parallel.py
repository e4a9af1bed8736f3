"""Several devices: the only place that maps over them.

`jax.pmap` maps a pure function over the axis `AXIS`. The state is replicated,
not stacked (`in_axes=None`), and the batch is cut along its first axis.

Where several processes work as one (`processes.py`), a step is mapped over the
devices of all of them. Each gives its own part of the batch and has its own
copies of the state; the step keeps these equal. What is applied without a step
stays on the devices of one process.

`jax.pmap` does that with the state unstacked and given up to the step. Around
each step it turns every array of the process into one of all processes and
back, which costs a core 11 ms more for 480 arrays than `jax.shard_map` over
arrays that stay so (`python -m benchmarks.process_steps`), while the devices
are busy with the step before.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from advbct_jax import processes

AXIS = 'batch'


def map_step(step: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles `step(state, batch, old, key)` for the devices of all processes.

  Args:
    step: returns (state, metrics), each the same on every device.

  Returns:
    The mapped step. It takes batches as `shard` makes them and gives back
    state and metrics without a device axis; the old state is given up. With
    several processes everything must be an array on the devices, and no typed
    key, which `jax.pmap` would fetch and send again at each step.
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
    As `map_step`; it takes states whose cut arrays lie by `sharding`.
  """

  def step_on_device(state: Any, batch: Any, *constants: Any) -> Any:
    return step(state, jax.tree.map(lambda x: x[0], batch), *constants)

  def mapped_step(state: Any, batch: Any, old: Any, key: Any) -> Any:
    everywhere = jax.sharding.PartitionSpec()
    cut = jax.sharding.PartitionSpec(AXIS)
    return jax.shard_map(
      step_on_device,
      mesh=_mesh(),
      in_specs=(spec(state), cut, everywhere, everywhere),
      out_specs=(spec(state), everywhere),
      # Derivatives through collectives are then of the sum over the devices,
      # as they are under `jax.pmap`.
      check_vma=False,
    )(state, batch, old, key)

  compiled = jax.jit(mapped_step, donate_argnums=0)
  if processes.count() == 1:
    return compiled

  def step_of_all(state: Any, batch: Any, old: Any, key: Any) -> Any:
    state, old, key = as_global((state, old, key))
    return as_local(compiled(state, _joined(batch), old, key))

  return step_of_all


def map_apply(apply: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """Compiles `apply(variables, batch)` for the devices of this process.

  Args:
    apply: maps [B, …] to [B, …], row by row.

  Returns:
    A function of variables and a batch cut by `shard`, with stacked results.
  """
  return jax.pmap(
    apply, axis_name=AXIS, in_axes=(None, 0), devices=jax.local_devices()
  )


def device_count() -> int:
  """How many devices work together, of all processes that do."""
  return processes.count() * jax.local_device_count()


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
  """How an array is cut over the devices of all processes."""
  return jax.sharding.NamedSharding(_mesh(), spec)


def cut(array: np.ndarray, spec: jax.sharding.PartitionSpec) -> jax.Array:
  """Cuts an array that every process has over the devices of all."""
  return jax.make_array_from_callback(
    array.shape, sharding(spec), lambda piece: array[piece]
  )


def fetch(array: jax.Array) -> np.ndarray:
  """An array that is cut, as a whole on the host of every process.

  No device has more of it at a time than one further piece.
  """
  if processes.count() == 1:
    return np.asarray(array)
  assert isinstance(array.sharding, jax.sharding.NamedSharding)
  spec = array.sharding.spec
  show = _shower(spec)
  return np.concatenate(
    [np.asarray(show(array, device)) for device in range(device_count())],
    axis=spec.index(AXIS),
  )


@functools.cache
def _shower(spec: jax.sharding.PartitionSpec) -> Callable[..., jax.Array]:
  """Gives what one device has of an array to all."""
  everywhere = jax.sharding.PartitionSpec()

  def show(piece: jax.Array, device: jax.Array) -> jax.Array:
    here = jax.lax.axis_index(AXIS) == device
    return jax.lax.psum(jnp.where(here, piece, 0), AXIS)

  return jax.jit(
    jax.shard_map(
      show, mesh=_mesh(), in_specs=(spec, everywhere), out_specs=everywhere
    )
  )


def agree(tree: Any) -> Any:
  """Puts the first process's arrays on the devices of all processes.

  Hosts of different kinds may compute the same thing with other last digits.

  Args:
    tree: of arrays, which have the same shapes in every process.

  Returns:
    The same, replicated.
  """
  if processes.count() > 1:
    tree = multihost_utils.broadcast_one_to_all(tree)
  return replicate(tree)


def as_global(tree: Any) -> Any:
  """Sees the copies that all processes have of an array as one array.

  Args:
    tree: of replicated arrays, the same in every process. Nothing is copied.
      What lies on all devices already, or on none, stays as it is.

  Returns:
    What Orbax saves: arrays on the devices of all processes.
  """
  return _seen_on(_mesh(), tree)


def as_local(tree: Any) -> Any:
  """Undoes `as_global`: the copies that this process has of arrays."""
  return _seen_on(_local_mesh(), tree)


def _seen_on(mesh: jax.sharding.Mesh, tree: Any) -> Any:
  if processes.count() == 1:
    return tree
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

  def see(x: Any) -> Any:
    if not isinstance(x, jax.Array) or not x.is_fully_replicated:
      return x
    return jax.make_array_from_single_device_arrays(
      x.shape, everywhere, [copy.data for copy in x.addressable_shards]
    )

  return jax.tree.map(see, tree)


def _joined(batch: Any) -> Any:
  """Sees the pieces of a batch that all processes have as one, uncopied."""
  pieces = sharding(jax.sharding.PartitionSpec(AXIS))
  return jax.tree.map(
    lambda x: jax.make_array_from_single_device_arrays(
      (device_count(), *x.shape[1:]),
      pieces,
      [piece.data for piece in x.addressable_shards],
    ),
    batch,
  )


def _mesh() -> jax.sharding.Mesh:
  """The devices of all processes that work together."""
  if processes.count() == 1:
    return _local_mesh()
  return jax.sharding.Mesh(np.array(jax.devices()), (AXIS,))


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
