"""SIGTERM, SIGHUP and Ctrl-C, heard between two steps."""

import signal
import types


class Interruption:
  """While entered, a first such signal is noted instead of obeyed.

  SIGHUP says that the terminal is gone. A second signal is obeyed at once. One
  that the process was told to ignore, as shells tell jobs in the background,
  stays ignored.

  Attributes:
    signal: the signal that came, None before any.
  """

  _SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

  def __init__(self) -> None:
    self.signal: signal.Signals | None = None

  def __enter__(self) -> 'Interruption':
    self._before = {
      number: signal.signal(number, self._note)
      for number in self._SIGNALS
      if signal.getsignal(number) != signal.SIG_IGN
    }
    return self

  def __exit__(self, *unused: object) -> None:
    self._restore()

  def _note(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    self.signal = signal.Signals(number)
    self._restore()

  def _restore(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
