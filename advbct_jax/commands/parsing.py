"""How the commands read their lines, and what they say of a wrong one.

Commands with a config take absl's flags, since `ml_collections` does; the
others, most of which have commands of their own, take argparse's. Flags are
spelt alike: `--name=VALUE`, with underscores, never shortened.
"""

import argparse
from collections.abc import Sequence
import re
import sys
import textwrap
from typing import Any, NoReturn

from absl import flags

_WIDTH = 80


class Parser(argparse.ArgumentParser):
  """An argument parser that fails as all commands do.

  That of a command's own commands is one, too.
  """

  def __init__(self, **options: Any):
    """Takes what `argparse.ArgumentParser` takes."""
    # A shortened flag would mean something else once another is added.
    super().__init__(**{'allow_abbrev': False, **options})

  def error(self, message: str) -> NoReturn:
    """Ends the program with a sentence."""
    _fail(message, self.prog)


def asks_for_help(arguments: Sequence[str]) -> bool:
  """Whether a line asks what it may hold."""
  return not {'-h', '--help'}.isdisjoint(arguments)


def parse_flags(
  values: flags.FlagValues,
  program: str,
  description: str,
  arguments: Sequence[str],
) -> None:
  """Parses absl's flags, or ends the program.

  It prints the flags for `--help`; an unknown `--config.x` ends it with the
  nearest known name.

  Args:
    values: the command's own flags; they get their values.
    program: the command, as it is called.
    description: what it does, for `--help`.
    arguments: what follows the program's name.
  """
  if asks_for_help(arguments):
    print(_describe_flags(values, program, description))
    sys.exit(0)
  try:
    _, *unknown = values([program, *arguments])
  except flags.Error as error:
    _fail(str(error), program)
  # ml_collections lets these through, with a helpful text.
  except (AttributeError, KeyError) as error:
    text = re.sub(r"\\'|['\"]", '', str(error)).replace('\\n', '\n')
    field, _, hint = text.partition('\n')
    message = text
    if ' ' not in field:
      message = f'the config has no field {field}. {hint}'.rstrip()
    _fail(message, program)
  except (OSError, TypeError) as error:
    _fail(str(error), program)
  if unknown:
    _fail(f'unknown arguments: {" ".join(unknown)}', program)


def _fail(message: str, program: str) -> NoReturn:
  print(f'error: {message}\nSee {program} --help.', file=sys.stderr)
  sys.exit(2)


def _describe_flags(
  values: flags.FlagValues, program: str, description: str
) -> str:
  """The help of a command, as argparse would lay it out."""
  lines = [f'usage: {program} [--FLAG=VALUE …]', '', description, '', 'flags:']
  for name in sorted(values, key=lambda name: name != 'config'):
    flag = values[name]
    lines.append(f'  --[no]{name}' if flag.boolean else f'  --{name}=VALUE')
    help_text = flag.help or ''
    if flag.default and not flag.boolean:
      help_text += f' ({flag.default})'
    lines += textwrap.wrap(
      help_text,
      _WIDTH,
      initial_indent=' ' * 6,
      subsequent_indent=' ' * 6,
    )
  return '\n'.join(lines)
