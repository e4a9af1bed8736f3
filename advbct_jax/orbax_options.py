"""How Orbax is told that a process reads or writes by itself."""

import jax
import orbax.checkpoint as ocp


def by_itself() -> ocp.options.MultiprocessingOptions:
  """Has Orbax not wait for the other processes, where there are several."""
  process = jax.process_index()
  if jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  return ocp.options.MultiprocessingOptions(
    primary_host=process,
    active_processes={process},
    barrier_sync_key_prefix=f'process_{process}',
  )
