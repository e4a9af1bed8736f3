"""What becomes of memory that a training step gives back."""

import ctypes

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
  """Has the C library keep what is freed, for the next step.

  On a CPU a train step takes its buffers anew, tens of megabytes, and frees
  them. glibc gives so large ones back to the system, which clears each page of
  the next ones before it hands them out, which takes a good part of a small
  network's step (`python -m benchmarks.freed_memory`). What is kept this way is
  at most what was taken at one time.

  It must be called before other threads are there, for these bring heaps of
  their own, to which it does not apply. Other C libraries are left as they are.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return
  for parameter, value in (
    (_M_ARENA_MAX, 1),
    (_M_MMAP_MAX, 0),
    (_M_TRIM_THRESHOLD, _MOST),
  ):
    mallopt(parameter, value)
