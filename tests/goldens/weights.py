"""Seeded random weights for a PyTorch state dict, the same on any machine.

`forward_*.npz` stores the names and shapes of a state dict, a seed, input
images and the embeddings that the PyTorch model gives for them; the weights
themselves are drawn here instead of being stored.
"""

import numpy as np


def draw(names, shapes, seed):
  """Draws one array per state-dict entry, in order.

  Args:
    names: sequence of state-dict keys, in state-dict order.
    shapes: sequence of shape tuples, one per name.
    seed: int seed of the PCG64 stream that all entries share.

  Returns:
    dict of key to float32 array (int64 zero for `num_batches_tracked`).
  """
  rng = np.random.Generator(np.random.PCG64(int(seed)))
  out = {}
  for name, shape in zip(names, shapes, strict=True):
    shape = tuple(int(n) for n in shape)
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'num_batches_tracked':
      out[name] = np.zeros((), np.int64)
    elif leaf == 'running_mean':
      out[name] = rng.normal(0, 0.1, shape).astype(np.float32)
    elif leaf == 'running_var':
      out[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    elif len(shape) >= 2:  # convolution or linear kernel
      fan_in = int(np.prod(shape[1:]))
      out[name] = rng.normal(0, fan_in**-0.5, shape).astype(np.float32)
    elif leaf == 'bias':
      out[name] = rng.normal(0, 0.1, shape).astype(np.float32)
    else:  # normalisation scale
      out[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
  return out
