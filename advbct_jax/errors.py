"""What ends a command with a message instead of a traceback."""

from collections.abc import Sequence
import os
import re
import reprlib
from typing import Any


class InputError(ValueError):
  """Input that cannot be used: a file, a flag, a config, a store.

  Its message names what was read, what was found there, what was wanted, and
  what to do. The command line prints it without a traceback.

  >>> import advbct_jax
  >>> try:
  ...   advbct_jax.open_store('nowhere')
  ... except advbct_jax.InputError as error:
  ...   print(str(error).partition(' (')[0])
  nowhere: no embedding store here
  """


class StoppedError(RuntimeError):
  """A signal has ended the training; its state is saved.

  Attributes:
    signal: which signal.
  """

  def __init__(self, step: int, steps: int, signal: int):
    super().__init__(
      f'stopped at step {step} of {steps}, which is saved; run the same '
      'command again to go on.'
    )
    self.signal = signal


class DivergedError(RuntimeError):
  """A loss or a norm is no finite number any more."""


class _Brief(reprlib.Repr):
  """Writes no more of anything than fits into a message."""

  def __init__(self) -> None:
    super().__init__()
    self.maxlevel = 2
    self.maxstring = self.maxother = 200

  def repr_int(self, found: int, level: int) -> str:
    """Python refuses to write the digits of very large numbers."""
    if found.bit_length() > 128:
      return f'a number of {found.bit_length()} bits'
    return repr(found)


_BRIEF = _Brief()


def brief(found: Any) -> str:
  """What was found, in a line that is short however much it is.

  Args:
    found: anything that a file may hold.

  >>> brief('x' * 1000)[:5], len(brief('x' * 1000)), brief(1 << 1000)
  ("'xxxx", 200, 'a number of 1001 bits')
  """
  return _BRIEF.repr(found)


def brief_list(found: Sequence[str], between: str = ', ') -> str:
  """The first of some names, in a line that is short however many they are.

  >>> brief_list(['a', 'b']), brief_list(['a'] * 100)[-19:]
  ('a, b', ', … (of 100 in all)')
  """
  listed = between.join(name[:100] for name in found[:30])
  listed = listed if listed.isprintable() else repr(listed)
  if len(found) > 30:
    listed += f'{between}… (of {len(found)} in all)'
  return listed


# TensorStore, which Orbax writes with, raises no OSError for what the operating
# system has refused it, and names all its settings.
_OF_TENSORSTORE = re.compile(
  r'local file "([^"]*)".*\[.*?os_error_code=\'(\d+)\'', re.DOTALL
)


def system_reason(error: BaseException | None) -> str:
  r"""What the operating system has refused TensorStore; empty for others.

  >>> system_reason(ValueError(
  ...   'Error writing local file "/runs/x": [os_error_code=\'28\']'
  ... ))
  '/runs/x: No space left on device'
  """
  refused = _OF_TENSORSTORE.search(str(error))
  if not refused:
    return ''
  place, code = refused.groups()
  return f'{place}: {os.strerror(int(code))}'


def brief_reason(error: Exception) -> str:
  """What another library says of an error, in a line that is short."""
  if reason := system_reason(error):
    return reason
  first = str(error).strip().partition('\n')[0] or type(error).__name__
  return first if len(first) <= 300 else f'{first[:300]} …'
