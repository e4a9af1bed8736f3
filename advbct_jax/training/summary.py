"""What a run is made of, as text."""

import collections

from flax import traverse_util
import jax

from advbct_jax import processes
from advbct_jax.training.run import Run


def summarize(run: Run, data_name: str) -> str:
  """Describes a run: its data, its parameters, the steps to come.

  Args:
    run: the run.
    data_name: what its image set is called.

  Returns:
    A text of several lines.
  """
  config, data = run.config, run.data
  taken = (
    f'{run.features.describe()}, {run.features.dimension} each'
    if run.features
    else f'{config.data.image_size} pixels, '
    f'augmentation {config.data.augmentation}'
  )
  several = (
    f' of {processes.count()} processes' if processes.count() > 1 else ''
  )
  return '\n'.join(
    [
      f'method      {config.method}',
      f'data        {len(data.rows)} images of {data.classes} classes '
      f'({data_name}), {taken}',
      f'devices     {jax.device_count()} × {jax.devices()[0].device_kind}'
      f'{several}, {config.batch_size // jax.device_count()} images each',
      f'steps       {run.steps} ({config.epochs} epochs of '
      f'{run.steps_per_epoch}), a checkpoint every '
      f'{config.checkpoint.every_steps}',
      '',
      parameter_table(run),
    ]
  )


def parameter_table(run: Run) -> str:
  """Counts the parameters of a run, a line a part of it."""
  params = jax.eval_shape(run.fresh_state).params
  counts: collections.Counter[str] = collections.Counter()
  for path, leaf in traverse_util.flatten_dict(params).items():
    depth = 3 if path[:2] == ('encoder', 'backbone') else 2
    counts['/'.join(path[:depth])] += leaf.size
  width = max(map(len, counts))
  lines = [f'{name:<{width}}  {count:>12,}' for name, count in counts.items()]
  total = f'{"all parameters":<{width}}  {sum(counts.values()):>12,}'
  return '\n'.join([*lines, total])
