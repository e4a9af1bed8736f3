"""SIGTERM, SIGHUP and Ctrl-C, heard between two steps."""

import contextlib
import signal
import threading
import types

from advbct_jax import processes


class Interruption:
  """While entered, a first such signal is noted instead of obeyed.

  SIGHUP says that the terminal is gone. A second signal is obeyed at once. One
  that the process was told to ignore, as shells tell jobs in the background,
  stays ignored.

  Where several processes train, a signal to one is one to all, and they agree
  on the step to stop after. JAX has that too, as
  `multihost_utils.reached_preemption_sync_point`, but for SIGTERM alone, which
  it then takes for the whole life of the process.

  Attributes:
    signal: the signal that came to this process, None before any.
  """

  _SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

  def __init__(self) -> None:
    self.signal: signal.Signals | None = None
    self._agreement: _Agreement | None = None

  def __enter__(self) -> 'Interruption':
    if processes.count() > 1:
      self._agreement = _Agreement()
    self._before = {
      number: signal.signal(number, self._note)
      for number in self._SIGNALS
      if signal.getsignal(number) != signal.SIG_IGN
    }
    return self

  def __exit__(self, *unused: object) -> None:
    self._restore()
    if self._agreement:
      self._agreement.close()

  def stops_after(self, step: int) -> bool:
    """Whether the training stops after a step; all processes say the same.

    Args:
      step: that was taken; each is asked about once, in order.
    """
    if self._agreement:
      return self._agreement.stops_after(step)
    return self.signal is not None

  def settle(self) -> signal.Signals | None:
    """The signal that came, to this process or another; None before any.

    It is to be asked once, after the last step.
    """
    heard = processes.gather(self.signal)
    return next(filter(None, heard), None)

  def _note(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    self.signal = signal.Signals(number)
    if self._agreement:
      self._agreement.asked.set()
    self._restore()

  def _restore(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)


class _Agreement:
  """Has all processes stop after the same step.

  Once one of them asks to, each says which step it has got to, and takes no
  further one until all have said so; the step after the farthest is the last.
  Threads say it, for a step may wait for a process that is behind.

  Attributes:
    asked: is set to ask for a stop.
  """

  def __init__(self) -> None:
    self.asked = threading.Event()
    self._key = processes.new_key()
    self._step = 0
    self._last: int | None = None
    self._lock = threading.Lock()
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._agree, daemon=True)
    self._thread.start()

  def stops_after(self, step: int) -> bool:
    with self._lock:
      self._step = step
      return self._last is not None and step >= self._last

  def close(self) -> None:
    self._over.set()
    self._thread.join(timeout=5)

  def _agree(self) -> None:
    # The table of the processes is gone where a failure has ended them.
    with contextlib.suppress(RuntimeError):
      while not self._over.is_set():
        if self.asked.is_set():
          processes.publish(self._key, True)
        if processes.look_up(self._key):
          break
      else:
        return
      with self._lock:
        processes.publish(f'{self._key}/{processes.index()}', self._step)
        steps = [
          processes.wait_for(f'{self._key}/{other}')
          for other in range(processes.count())
        ]
        self._last = max(steps) + 1
