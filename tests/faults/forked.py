"""Commands in forked processes, which needn't import anything any more.

A process that has imported all that commands use, but has no threads yet and
has not asked JAX for devices, can be forked for each command.
"""

import atexit
from collections.abc import Callable
import contextlib
import importlib
import os
import pathlib
import select
import signal
import sys
import threading
import time
import traceback

from advbct_jax import commands

# What commands import when they begin.
_IMPORTED = (
  'api',
  'adapters.mapping',
  'chains.run',
  'comparison.cell',
  'comparison.report',
  'convert.faiss_export',
  'convert.from_pytorch',
  'convert.to_pytorch',
  'data.data_check',
  'data.own_images',
  'data.records',
  'experiment',
  'refresh.plan',
  'training.run_stores',
)
# Nothing here takes a minute by itself; what takes longer hangs.
_PATIENCE = 120.0


def import_commands() -> None:
  """Imports what commands would, each anew, in forked processes."""
  for name in (*_IMPORTED, *(f'commands.{name}' for name in commands.COMMANDS)):
    importlib.import_module(f'advbct_jax.{name}')
  import matplotlib.pyplot  # noqa: F401


class Forked:
  """A function in a process of its own.

  Attributes:
    pid: of the process, which leads a group of its own.
    log: the file that gets what it says.
  """

  def __init__(
    self,
    function: Callable[[], object],
    folder: pathlib.Path,
    log: pathlib.Path,
  ):
    """Starts it.

    Args:
      function: what to call.
      folder: its working directory.
      log: a file for what it says, which is appended to.
    """
    self.log = log
    self._began = time.monotonic()
    self.pid = os.fork()
    if not self.pid:
      _run(function, folder, log)
    self._file = os.pidfd_open(self.pid)

  def wait(self, seconds: float) -> bool:
    """Waits for its end, so long at most; says whether it has ended."""
    return bool(select.select([self._file], [], [], max(seconds, 0))[0])

  def disturb(self, number: signal.Signals, after: float) -> bool:
    """Sends a signal so long after the start; False if it has ended before."""
    if self.wait(self._began + after - time.monotonic()):
      return False
    os.kill(self.pid, number)
    return True

  def end(self, patience: float = _PATIENCE) -> tuple[int, float]:
    """Waits for its end.

    Returns:
      Its exit status, negative for a signal's, and its seconds.

    Raises:
      TimeoutError: if it hangs; it is killed then, with all its group.
    """
    hangs = not self.wait(patience)
    if hangs:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(self.pid, signal.SIGKILL)
    seconds = time.monotonic() - self._began
    _, status = os.waitpid(self.pid, 0)
    os.close(self._file)
    if hangs:
      raise TimeoutError(f'no end after {patience:.0f} s: {self.log}')
    return os.waitstatus_to_exitcode(status), seconds


def run_line(line: str) -> Callable[[], None]:
  """What runs an `advbct` line as a process of its own would."""

  def run() -> None:
    words = line.split()
    sys.argv = ['advbct', *words]
    # Which a comparison starts its jobs by.
    sys.orig_argv = [sys.executable, '-m', 'advbct_jax', *words]
    commands.main(words)

  return run


def _run(
  function: Callable[[], object], folder: pathlib.Path, log: pathlib.Path
) -> None:
  """Becomes a process that calls a function and ends."""
  status = 1
  try:
    os.setsid()
    os.chdir(folder)
    with log.open('ab', 0) as file:
      os.dup2(file.fileno(), 1)
      os.dup2(file.fileno(), 2)
    # Whatever the harness was told to ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    function()
    status = 0
  except SystemExit as ended:
    status = ended.code if isinstance(ended.code, int) else bool(ended.code)
  except BaseException:
    traceback.print_exc()
  finally:
    # What Python does at its end, but for leaving the stack of the harness.
    with contextlib.suppress(BaseException):
      threading._shutdown()  # type: ignore[attr-defined]
      atexit._run_exitfuncs()
      sys.stdout.flush()
      sys.stderr.flush()
    os._exit(status)
