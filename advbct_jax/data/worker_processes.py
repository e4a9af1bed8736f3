"""What worker processes need of the machine, and why they die."""

from collections.abc import Iterator
import contextlib
import math
import os
import pathlib
import re
import signal

from advbct_jax.errors import InputError

# Where Linux has the memory that processes share; other systems set no limit.
_SHARED_MEMORY = pathlib.Path('/dev/shm')

# Measured: that many batches lie there once everybody waits for the device, of
# each worker (one it offers, one in its queue, two taken out of it) and besides
# (those in use, or about to be freed).
_BATCHES_A_WORKER = 4
_BATCHES_BESIDES = 4
# For locks, and for what rounding up to pages adds.
_BYTES_A_WORKER = 2**18

_MEGABYTE = 10**6

_FEWER_WORKERS = (
  'take fewer workers (config.data.workers or --workers; 0 takes threads)'
)

_CAUSES = {
  # What is written there beyond its end is a SIGBUS, not an error.
  'SIGBUS': f'{_SHARED_MEMORY} is full: give it more (docker run --shm-size)',
  'SIGKILL': 'the memory ran out, and the system chose this process',
  'SIGTERM': 'somebody, or a scheduler, has ended it',
  'SIGSEGV': 'a library crashed, perhaps on a damaged image',
}
_ANOTHER_SIGNAL = 'a library crashed'
_EXIT = 'it could not start, or import what it needs; see what it wrote above'


def require_shared_memory(
  batch_bytes: int, workers: int, batches: float = math.inf
) -> None:
  """Refuses settings whose batches don't fit the memory that processes share.

  A container has 64 MB of it, unless told otherwise; a worker that wants more
  dies without a word.

  Args:
    batch_bytes: of one batch.
    workers: how many processes make batches.
    batches: how many there will be at all.

  Raises:
    InputError: with what is there, what is wanted and what to do.
  """
  try:
    space = os.statvfs(_SHARED_MEMORY)
  except (AttributeError, OSError):  # Not Linux, or nothing to look at.
    return
  free = space.f_bavail * space.f_frsize
  wanted = _wanted_bytes(batch_bytes, workers, batches)
  if free >= wanted:
    return
  fewer = range(1, workers)
  fitting = sum(_wanted_bytes(batch_bytes, n, batches) <= free for n in fewer)
  megabytes = math.ceil(wanted / _MEGABYTE)
  raise InputError(
    f'{_SHARED_MEMORY}: found {free // _MEGABYTE} MB free, but {workers} '
    f'workers with batches of {batch_bytes / _MEGABYTE:.3g} MB want '
    f'{megabytes} MB. Give it more (docker run --shm-size={megabytes}m), or '
    f'say config.data.workers={fitting} (--workers={fitting})'
    f'{"" if fitting else ", which takes threads"}.'
  )


@contextlib.contextmanager
def explain_failures(workers: int) -> Iterator[None]:
  """Says why worker processes died or could not run.

  Args:
    workers: how many there are; with 0 whatever is raised passes.

  Raises:
    InputError: in place of what Grain, or the machine, raises of processes.
  """
  try:
    yield
  except RuntimeError as error:
    # Grain has no class of its own for it.
    code = re.search(r'exit code (-?\d+)', str(error))
    if not workers or not code:
      raise
    raise InputError(_describe_death(int(code[1]))) from error
  # What an image or a record raises is an InputError already: this is a lack of
  # space, of open files or of processes.
  except (OSError, MemoryError) as error:
    if not workers:
      raise
    raise InputError(
      f'{workers} worker processes cannot run '
      f'({f"{error}" or type(error).__name__}); {_FEWER_WORKERS}.'
    ) from error


def _wanted_bytes(batch_bytes: int, workers: int, batches: float) -> int:
  waiting = _BATCHES_A_WORKER * workers + _BATCHES_BESIDES
  return int(min(waiting, batches)) * batch_bytes + workers * _BYTES_A_WORKER


def _describe_death(code: int) -> str:
  """Why a process may have ended with an exit code, and what to do."""
  if code < 0:
    try:
      name = signal.Signals(-code).name
    except ValueError:
      name = f'signal {-code}'
    ended = f'ended by {name} (exit code {code})'
    cause = _CAUSES.get(name, _ANOTHER_SIGNAL)
  else:
    ended, cause = f'ended with exit code {code}', _EXIT
  return (
    f'a worker process that decodes images {ended}. Likely: {cause}. '
    f'Otherwise {_FEWER_WORKERS}, and start again; what is saved is kept.'
  )
