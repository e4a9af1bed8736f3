"""Keeps two processes from writing the same thing at once.

A lock is the kernel's (`flock`), so it ends with its holder, however that dies,
and nobody has to tell a dead holder's lock from a living one's. The file that
is locked says who holds it, for the message to whoever comes second. The
library filelock is no help here: it knows nothing of who holds a lock, and
where a file system has no `flock` it goes over to a mere file, which outlives a
kill.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import pathlib
import shlex
import socket
import sys
import textwrap
import threading
import warnings

from advbct_jax import processes
from advbct_jax.errors import InputError

# Errors of `flock`: somebody has the lock; this file system has no locks.
_TAKEN = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclasses.dataclass
class _Held:
  """A lock of this process: its open file, its thread, and how often taken."""

  file: int
  thread: int
  depth: int = 1


_held: dict[pathlib.Path, _Held] = {}


@contextlib.contextmanager
def hold(folder: pathlib.Path | str, doing: str) -> Iterator[None]:
  """Holds a folder that is about to be written to.

  The lock is `FOLDER/.lock`, which is there only while it is held (or after a
  kill, where it does no harm). The thread that holds a folder may hold it
  again. Where several processes work as one (`processes.py`), the first of them
  holds for all.

  Args:
    folder: is made if it is not there.
    doing: what is done, for whoever comes second, such as `trains`.

  Raises:
    InputError: if another process or thread holds it, saying which one, since
      when, and what to do; or if the folder cannot be written to.
  """
  folder = pathlib.Path(folder)
  with _hold(folder / '.lock', folder, doing):
    yield


@contextlib.contextmanager
def hold_name(path: pathlib.Path | str, doing: str) -> Iterator[None]:
  """Holds a name that something is about to be written under.

  It is for what appears under its name only when it is whole; the lock lies
  beside it, as `.NAME.lock`. For the rest see `hold`.

  Args:
    path: what will be there; its folder is made if it is not there.
    doing: what is done, such as `fills the store`.

  Raises:
    InputError: as `hold` does.
  """
  path = pathlib.Path(path)
  with _hold(path.with_name(f'.{path.name}.lock'), path, doing):
    yield


@contextlib.contextmanager
def _hold(lock: pathlib.Path, what: pathlib.Path, doing: str) -> Iterator[None]:
  if not processes.is_first():
    yield
    return
  try:
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock = lock.parent.resolve() / lock.name
    held = _held.get(lock)
    if held is not None and held.thread == threading.get_ident():
      held.depth += 1
    else:
      _held[lock] = held = _Held(
        _take(lock, what, doing), threading.get_ident()
      )
  except OSError as error:
    raise InputError(
      f'{what}: cannot be written to ({error}). Name another place, or see to '
      'its rights.'
    ) from error
  try:
    yield
  finally:
    held.depth -= 1
    if not held.depth:
      del _held[lock]
      # Removed while it is still held: whoever has it open by now sees that it
      # is gone, and takes the next one.
      with contextlib.suppress(OSError):
        lock.unlink()
      os.close(held.file)


def _take(lock: pathlib.Path, what: pathlib.Path, doing: str) -> int:
  """Opens and locks a file, and writes into it who does what."""
  while True:
    file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      _lock(file, lock, what)
      if _is_there(file, lock):
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(_describe(doing)).encode(), 0)
        return file
    except BaseException:
      os.close(file)
      raise
    os.close(file)


def _lock(file: int, lock: pathlib.Path, what: pathlib.Path) -> None:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno in _TAKEN:
      raise InputError(
        f'{what}: {_holder(file)}. Wait for its end, or stop it, and run the '
        'same command again; or name another place.'
      ) from error
    if error.errno not in _NO_LOCKS:
      raise
    warnings.warn(
      f'{lock}: this file system has no locks ({error.strerror}); see to it '
      f'yourself that one process alone writes to {what}',
      stacklevel=2,
    )


def _is_there(file: int, lock: pathlib.Path) -> bool:
  """Whether an open file is still the one of its name."""
  try:
    return os.path.samestat(os.fstat(file), lock.stat())
  except FileNotFoundError:
    return False


def _describe(doing: str) -> dict[str, str | int]:
  return {
    'doing': doing,
    'pid': os.getpid(),
    'host': socket.gethostname(),
    'since': f'{datetime.datetime.now():%Y-%m-%d %H:%M:%S}',
    # Given with -c, it has line breaks.
    'command': textwrap.shorten(shlex.join(sys.orig_argv), 300),
  }


def _holder(file: int) -> str:
  """Says who holds a lock, in words."""
  try:
    there = json.loads(os.pread(file, 2**16, 0))
    return (
      f'process {there["pid"]} on {there["host"]} {there["doing"]} here since '
      f'{there["since"]} ({there["command"]})'
    )
  except (ValueError, KeyError, TypeError):
    # It has the lock, and is about to say so.
    return 'another process is at it'


def _forget_in_child() -> None:
  """Lets go of a parent's locks in a forked child, which may outlive it."""
  for held in _held.values():
    os.close(held.file)
  _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
