"""How many batches PyTorch's BatchNorms have seen: `num_batches_tracked`."""

from collections.abc import Iterable

import ml_collections
import numpy as np

from advbct_jax.weights.files import Tensors
from advbct_jax.weights.layouts import Layout


def batch_norms(flat: Iterable[str]) -> list[str]:
  """The paths of the modules that have running statistics."""
  return [
    ours.removeprefix('batch_stats/').removesuffix('/mean')
    for ours in flat
    if ours.startswith('batch_stats/') and ours.endswith('/mean')
  ]


def expected_counters(
  config: ml_collections.ConfigDict, flat: Iterable[str], step: int
) -> dict[str, int]:
  """How many batches each BatchNorm sees in a training of ours.

  Every one sees a batch a step, but a discriminator that sees both domains one
  after the other sees two.
  """
  advbct = config.get('advbct', {})
  norm = advbct.get('discriminator_norm', 'per_domain')
  twice = ['method/discriminator/bn1'] if norm == 'per_domain' else []
  return {
    module: 2 * step if module in twice else step
    for module in batch_norms(flat)
  }


def read_counters(
  tensors: Tensors, flat: Iterable[str], layout: Layout
) -> tuple[dict[str, int | None], list[str]]:
  """What weights tell of each BatchNorm's batches.

  Nothing is computed from these numbers, so none of them is worth a refusal:
  `half()` has made them infinite, and some writers give them an axis.

  Args:
    tensors: by name.
    flat: the paths of our variables.
    layout: whose names the tensors have.

  Returns:
    The count of each module, None where there is none, and what was there
    instead of one, a text each.
  """
  found: dict[str, int | None] = {}
  dropped = []
  for module in batch_norms(flat):
    name = layout.counter_name(module)
    counter = tensors.get(name) if name else None
    found[module] = None if counter is None else _as_count(counter)
    if counter is not None and found[module] is None:
      dropped.append(f'{name} ({np.array2string(counter, threshold=3)})')
  if len(dropped) > 3:
    dropped[3:] = [f'… ({len(dropped)} in all)']
  return found, dropped


def _as_count(counter: np.ndarray) -> int | None:
  """A single whole number from 0 to 2³¹ − 1, in whatever form; else None."""
  if counter.size != 1 or np.issubdtype(counter.dtype, np.complexfloating):
    return None
  number = float(counter.reshape(()))
  return int(number) if number.is_integer() and 0 <= number < 2**31 else None
