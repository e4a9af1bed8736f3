"""How the commands fail."""

from collections.abc import Iterator
import contextlib
import signal
import sys

from absl import logging

from advbct_jax.errors import DivergedError, InputError, StoppedError


@contextlib.contextmanager
def exit_with_message() -> Iterator[None]:
  """Turns what ends a command into its message and an exit status.

  That is 2 for an `InputError`, 1 for a training that diverged, and 128 plus
  the signal's number for one that a signal has stopped.
  """
  # Orbax and Grain warn about what they do as asked.
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  except DivergedError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)
  except StoppedError as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(128 + stopped.signal)
  except KeyboardInterrupt:
    print('\nstopped; run the same command again to go on.', file=sys.stderr)
    sys.exit(128 + signal.SIGINT)
