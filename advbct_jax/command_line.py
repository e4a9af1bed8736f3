"""What the commands share: how they read flags and how they fail."""

from collections.abc import Iterator, Sequence
import contextlib
from logging import ERROR, LogRecord
import re
import signal
import sys

from absl import flags, logging

from advbct_jax.errors import DivergedError, InputError, StoppedError

# Orbax warns that checkpoints opened for reading are only read.
_AS_ASKED = re.compile('read[ _]only=')


@contextlib.contextmanager
def exit_with_message() -> Iterator[None]:
  """Turns what ends a command into its message and an exit status.

  That is 2 for an `InputError`, 1 for a training that diverged, and 128 plus
  the signal's number for one that a signal has stopped.
  """
  logging.set_verbosity(logging.WARNING)
  logging.get_absl_logger().addFilter(_is_worth_saying)
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


def _is_worth_saying(record: LogRecord) -> bool:
  """Whether a library's message is more than that it does as asked.

  All others pass: a library that does by half what it was asked may say so in
  a warning alone.
  """
  return record.levelno >= ERROR or not _AS_ASKED.search(record.getMessage())


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses flags; an unknown `--config.x` exits with the nearest known name.

  Args:
    argv: the command line, program first.

  Returns:
    What is left of it.
  """
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    message = str(error)
  # ml_collections lets these through, with a helpful text.
  except (AttributeError, KeyError) as error:
    text = re.sub(r"\\'|['\"]", '', str(error)).replace('\\n', '\n')
    field, _, hint = text.partition('\n')
    message = text
    if ' ' not in field:
      message = f'the config has no field {field}. {hint}'.rstrip()
  except (OSError, TypeError) as error:
    message = str(error)
  print(f'error: {message}\nSee --help.', file=sys.stderr)
  sys.exit(2)
