"""How many batches PyTorch's BatchNorms have seen: `num_batches_tracked`."""

from collections.abc import Iterable

import ml_collections


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
