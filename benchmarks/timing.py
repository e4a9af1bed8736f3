"""Times functions side by side: median and spread, in turns."""

from collections.abc import Callable, Mapping
import time

import jax
import numpy as np


def time_in_turns(
  functions: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, np.ndarray]:
  """Calls functions in turns, so that a machine's noise meets all alike.

  Args:
    functions: what to time, by name; each is called once before, to compile.
    rounds: how often each is timed.

  Returns:
    [rounds] seconds of each.
  """
  for function in functions.values():
    jax.block_until_ready(function())
  seconds: dict[str, list[float]] = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      start = time.perf_counter()
      jax.block_until_ready(function())
      seconds[name].append(time.perf_counter() - start)
  return {name: np.array(values) for name, values in seconds.items()}


def spread(values: np.ndarray, digits: int = 3) -> str:
  """The median of some values, with their quartiles in brackets."""
  low, median, high = np.percentile(values, (25, 50, 75))
  return f'{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})'
