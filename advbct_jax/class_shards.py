"""Where the classes lie: all of them on every device, or on each a shard.

A million classes of 256 components take 1 GiB, as much again in momentum and in
gradients, and a batch of 256 has 1 GiB of logits. None of it needs to be in one
place. What has an axis of classes (the classifier's weights, what a method
learns of each class, the optimiser's state of both) is cut over the devices;
each has the logits of its own classes for the whole batch, and the softmax is
brought together from their maxima and sums. So it is exact, and what is learnt
is what would be learnt on one device.

Methods and the train step call the same functions of either layout.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from advbct_jax import parallel
from advbct_jax.parallel import AXIS

P = jax.sharding.PartitionSpec

_CLASSIFIER = ('classifier', 'kernel')  # [D, C]


@dataclasses.dataclass(frozen=True)
class WholeClasses:
  """All classes on every device, which has a part of the batch.

  Attributes:
    classes: the number C of classes.
  """

  classes: int

  @property
  def count(self) -> int:
    """How many classes a device has."""
    return self.classes

  def gather(
    self, embeddings: jax.Array, labels: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """The samples that a device classifies: its own, as they are."""
    return embeddings, labels

  def cross_entropy(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """[B] the cross-entropy of [B, C] logits and [B] classes."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

  def hits(self, scores: jax.Array, labels: jax.Array) -> jax.Array:
    """[B] whether the class of the highest of [B, C] scores is the label."""
    return scores.argmax(axis=-1) == labels

  def look_up(self, values: jax.Array, labels: jax.Array) -> jax.Array:
    """[B, …] of [C, …] values those of [B] classes."""
    return values[labels]

  def mean_gradients(self, gradients: Any) -> Any:
    """The gradients of the mean of the devices' losses."""
    return jax.lax.pmean(gradients, AXIS)

  def norm(self, tree: Any) -> jax.Array:
    """The length of all arrays of a tree together."""
    return optax.tree.norm(tree)

  def map_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a train step for all devices."""
    return parallel.map_step(step)

  def draw(self, init: Callable[..., Any], *arguments: Any) -> Any:
    """The state that a function makes, on the devices."""
    return self.place(jax.jit(init)(*arguments))

  def place(self, state: Any) -> Any:
    """Puts a state onto the devices."""
    return parallel.replicate(state)

  def agree(self, state: Any) -> Any:
    """Has all processes begin with the first one's state."""
    return parallel.agree(state)

  def whole(self, state: Any) -> Any:
    """A placed state as it is stored."""
    return state


@dataclasses.dataclass(frozen=True)
class ClassShards:
  """As many classes on each device, which has logits for the whole batch.

  Where they can't be shared evenly, the last places belong to no class: what
  lies there is zero, is in no softmax, and so stays zero.

  Attributes:
    classes: the number C of classes.
    devices: over how many they are cut.
    parameters: names of the method's own parameters whose first axis is that of
      the classes.
  """

  classes: int
  devices: int
  parameters: tuple[str, ...] = ()

  @property
  def count(self) -> int:
    """How many places for classes a device has, C' for short."""
    return -(-self.classes // self.devices)

  def gather(
    self, embeddings: jax.Array, labels: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """The samples that a device classifies: those of all devices.

    Args:
      embeddings: [B, D] on this device.
      labels: [B] classes.

    Returns:
      [devices·B, D] embeddings; [devices·B] classes as this device counts its
      own, from 0, so that those of the others are negative or C' and above.
    """
    return (
      parallel.gather(embeddings, differentiable=True),
      parallel.gather(labels) - self._first(),
    )

  def cross_entropy(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The cross-entropy over the classes of all devices.

    Args:
      logits: [N, C'] of this device's classes.
      labels: [N] as `gather` gives them.

    Returns:
      [N], the same on every device.
    """
    logits = self._without_padding(logits)
    highest = jax.lax.pmax(
      jax.lax.stop_gradient(logits.max(axis=1)), axis_name=AXIS
    )
    total = jnp.exp(logits - highest[:, None]).sum(axis=1)
    mine, places = self._find(labels)
    own = jnp.take_along_axis(logits, places[:, None], axis=1)[:, 0]
    total, own = jax.lax.psum((total, jnp.where(mine, own, 0)), AXIS)
    return jnp.log(total) + highest - own

  def hits(self, scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the class of the highest score of all devices is the label.

    Args:
      scores: [N, C'] of this device's classes.
      labels: [N] as `gather` gives them.

    Returns:
      [N], the same on every device.
    """
    scores = jax.lax.stop_gradient(self._without_padding(scores))
    highest = scores.max(axis=1)
    best = self._first() + scores.argmax(axis=1)
    # The first of equals, as everywhere.
    best = jax.lax.pmin(
      jnp.where(highest == jax.lax.pmax(highest, AXIS), best, self.classes),
      AXIS,
    )
    return best == labels + self._first()

  def look_up(self, values: jax.Array, labels: jax.Array) -> jax.Array:
    """What is known of some classes, wherever they lie.

    Args:
      values: [C', …] of this device's classes.
      labels: [B] classes.

    Returns:
      [B, …] of these classes.
    """
    mine, places = self._find(parallel.gather(labels) - self._first())
    mine = mine.reshape(-1, *[1] * (values.ndim - 1))
    found = jnp.where(mine, values[places], 0)
    return jax.lax.psum_scatter(found, AXIS, tiled=True)

  def mean_gradients(self, gradients: Any) -> Any:
    """The gradients of the mean of the devices' losses.

    Args:
      gradients: on each device those of the sum of all devices' losses by what
        lies there, which is what a derivative through collectives gives.
    """

    def mean(path: Any, gradient: jax.Array) -> jax.Array:
      if self._axis(path) is None:
        return jax.lax.pmean(gradient, AXIS)
      return gradient / self.devices

    return jax.tree_util.tree_map_with_path(mean, gradients)

  def norm(self, tree: Any) -> jax.Array:
    """The length of all arrays of a tree together, the same on every device."""
    shards: list[jax.Array] = []
    copies: list[jax.Array] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      (copies if self._axis(path) is None else shards).append(leaf)
    squares = jax.lax.psum(optax.tree.norm(shards, squared=True), AXIS)
    return jnp.sqrt(optax.tree.norm(copies, squared=True) + squares)

  def map_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a train step for all devices, each with its shard."""
    return parallel.map_sharded_step(step, self.spec)

  def spec(self, tree: Any) -> Any:
    """How the arrays of a tree, such as a state, lie on the devices."""
    return jax.tree_util.tree_map_with_path(
      lambda path, _: self._spec(path), tree
    )

  def draw(self, init: Callable[..., Any], *arguments: Any) -> Any:
    """The state that a function makes, of which no device ever has the whole.

    Args:
      init: makes a state of whole classes.
      arguments: of it.

    Returns:
      The state as `place` gives it.
    """

    def init_padded(*arguments: Any) -> Any:
      return jax.tree_util.tree_map_with_path(self._pad, init(*arguments))

    shardings = jax.tree.map(
      parallel.sharding,
      self.spec(jax.eval_shape(init, *arguments)),
    )
    drawn = jax.jit(init_padded, out_shardings=shardings)(
      *parallel.as_global(parallel.replicate(arguments))
    )
    return parallel.as_local(drawn)

  def place(self, state: Any) -> Any:
    """Puts a state onto the devices, padded and cut along its classes."""

    def put(path: Any, leaf: Any) -> jax.Array:
      if self._axis(path) is None:
        return parallel.replicate(leaf)
      return parallel.cut(self._pad(path, np.asarray(leaf)), self._spec(path))

    return jax.tree_util.tree_map_with_path(put, state)

  def agree(self, state: Any) -> Any:
    """Has all processes begin with the first one's state.

    What is cut is of one computation or of one file in all of them.
    """
    copies = jax.tree_util.tree_map_with_path(
      lambda path, leaf: leaf if self._axis(path) is None else None, state
    )
    return jax.tree.map(
      lambda copy, leaf: leaf if copy is None else copy,
      parallel.agree(copies),
      state,
      is_leaf=lambda x: x is None,
    )

  def whole(self, state: Any) -> Any:
    """A placed state as it is stored, which tells nothing of the devices.

    Args:
      state: as `place` or a step gives it.

    Returns:
      The same, where what is cut is whole again, without padding, on the host
      of every process.
    """

    def join(path: Any, leaf: jax.Array) -> Any:
      axis = self._axis(path)
      if axis is None:
        return leaf
      whole = parallel.fetch(leaf)
      return whole[(slice(None),) * axis + (slice(self.classes),)]

    return jax.tree_util.tree_map_with_path(join, state)

  def _first(self) -> jax.Array:
    """This device's first class."""
    return jax.lax.axis_index(AXIS) * self.count

  def _find(self, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which classes lie on this device, and their places there, or any."""
    mine = (labels >= 0) & (labels < self.count)
    return mine, jnp.where(mine, labels, 0)

  def _without_padding(self, scores: jax.Array) -> jax.Array:
    there = self._first() + jnp.arange(self.count) < self.classes
    return jnp.where(there, scores, -jnp.inf)

  def _axis(self, path: Any) -> int | None:
    """Which axis of an array is that of the classes, None for an array without.

    Args:
      path: of the array in a state, in its parameters, or in anything of their
        structure, as the optimiser's state is.
    """
    names = tuple(
      key.key for key in path if isinstance(key, jax.tree_util.DictKey)
    )
    if names == _CLASSIFIER:
      return 1
    own = [('method', name) for name in self.parameters]
    return 0 if names in own else None

  def _spec(self, path: Any) -> P:
    axis = self._axis(path)
    return P() if axis is None else P(*[None] * axis, AXIS)

  def _pad(self, path: Any, leaf: Any) -> Any:
    """Gives an array of whole classes the places that have none."""
    axis = self._axis(path)
    if axis is None:
      return leaf
    widths = [(0, 0)] * leaf.ndim
    widths[axis] = (0, self.count * self.devices - self.classes)
    # On the host what is there already.
    pad = np.pad if isinstance(leaf, np.ndarray) else jnp.pad
    return pad(leaf, widths)


ClassLayout = WholeClasses | ClassShards
