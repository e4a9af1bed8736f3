"""How the commands fail."""

from collections.abc import Iterator
import contextlib
import logging
import os
import signal
import sys
import traceback
from typing import NoReturn
import warnings

from absl import logging as absl_logging

from advbct_jax import processes
from advbct_jax.errors import (
  DivergedError,
  InputError,
  StoppedError,
  brief_reason,
  system_reason,
)

# Orbax warns each time that a checkpoint is opened for reading alone, as it was
# told to, and that arrays of NumPy have none of JAX's metadata. Its other
# warnings are not hidden: some are all that it says of a checkpoint that it has
# written in part.
_NOISE = (
  'CheckpointManagerOptions.read_only=True',
  'Given directory is read only',
  'No jax.Array in TypeHandlerRegistry',
)


@contextlib.contextmanager
def exit_with_message() -> Iterator[None]:
  """Turns what ends a command into its message and an exit status.

  That is 2 for an `InputError`, an error of the operating system (a full disk,
  a folder that may not be written) and a platform that JAX cannot use, 1 for a
  training that diverged, and 128 plus the signal's number for one that a signal
  has stopped. Any other exception is a fault of the program and keeps its
  traceback. Where several processes work as one (`processes.start`), what ends
  one of them ends all.
  """
  absl_logging.set_verbosity(absl_logging.WARNING)
  for logger in (absl_logging.get_absl_logger(), logging.getLogger('asyncio')):
    logger.addFilter(_is_worth_reading)
  with _end_together(), _exit_with_reason():
    yield


@contextlib.contextmanager
def _end_together() -> Iterator[None]:
  """Has no process wait at its end for others that wait for it."""
  try:
    yield
  except BaseException as error:
    if processes.count() > 1:
      _end_all(error)
    raise
  processes.leave()


def _end_all(error: BaseException) -> NoReturn:
  """Ends all processes by what no message was made for."""
  if isinstance(error, SystemExit) and isinstance(error.code, int):
    processes.end_all('', error.code)
  traceback.print_exception(error)
  processes.end_all(f'error: {type(error).__name__}, a fault; see above', 1)


@contextlib.contextmanager
def _exit_with_reason() -> Iterator[None]:
  """Ends with a message where the reason is known."""
  try:
    yield
  except InputError as error:
    _exit(f'error: {error}', 2)
  except DivergedError as error:
    _exit(f'error: {error}', 1)
  except StoppedError as stopped:
    _exit(str(stopped), 128 + stopped.signal)
  except KeyboardInterrupt:
    _exit(
      '\nstopped; run the same command again to go on.', 128 + signal.SIGINT
    )
  except BrokenPipeError:
    # Whoever read the output has had enough, as head has. Python would say so
    # again when it flushes what is left at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)
  except OSError as error:
    # Libraries derive errors of their own from it, which have no number.
    if error.errno is None:
      raise
    _exit(f'error: {_describe_os_error(error)}', 2)
  except (AssertionError, RuntimeError):
    # What JAX raises where it finds no device: without a word, if the platform
    # is CUDA.
    fault = _platform_fault()
    if not fault:
      raise
    _exit(f'error: {fault}', 2)
  except ValueError as error:
    reason = system_reason(error)
    if not reason:
      raise
    _exit(f'error: {reason}.', 2)


@contextlib.contextmanager
def warnings_in_a_line() -> Iterator[None]:
  """Prints warnings without the line of code that they come from."""
  with warnings.catch_warnings():
    warnings.showwarning = lambda message, *_, **__: print(
      f'warning: {message}', file=sys.stderr
    )
    yield


def _exit(message: str, status: int) -> NoReturn:
  if processes.count() > 1:
    processes.end_all(message, status)
  print(message, file=sys.stderr)
  sys.exit(status)


def _is_worth_reading(record: logging.LogRecord) -> bool:
  # Of a full disk each thread of Orbax tells its way to it, in a page.
  error = record.exc_info and record.exc_info[1]
  if isinstance(error, Exception) and (
    isinstance(error, OSError) or system_reason(error)
  ):
    record.msg, record.args = brief_reason(error), ()
    record.exc_info = record.exc_text = None
  return not record.getMessage().startswith(_NOISE)


def _describe_os_error(error: OSError) -> str:
  """Says in a line what the operating system refused, and where."""
  places = [
    os.fsdecode(name)
    for name in (error.filename, error.filename2)
    if isinstance(name, (str, bytes, os.PathLike))
  ]
  reason = error.strerror or str(error)
  return f'{" and ".join(places)}: {reason}.' if places else f'{reason}.'


def _platform_fault() -> str:
  """Says in a line why JAX finds no device; empty where it finds one."""
  # Where nobody has imported it, it is not at fault, and would take a second.
  jax = sys.modules.get('jax')
  if jax is None:
    return ''
  try:
    jax.devices()
  except (AssertionError, RuntimeError) as error:
    wanted = jax.config.jax_platforms
    reason = str(error).partition(' (set JAX_PLATFORMS')[0].rstrip('.')
    return (
      f'JAX_PLATFORMS is {wanted}, and JAX cannot use that here '
      f'({reason or "no such device, or its plugin is not installed"}). Leave '
      'JAX_PLATFORMS unset to use what is there, or set it to cpu; a GPU or a '
      "TPU needs its driver and pip install 'advbct_jax[cuda]' or [tpu]."
    )
  return ''
