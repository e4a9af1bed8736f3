"""Trains a chain of upgrades, and judges every step on every gallery."""

from collections.abc import Sequence
import pathlib
import sys

from absl import flags

from advbct_jax.command_line import exit_with_message
from advbct_jax.commands.config_files import (
  default_workdir,
  define_config,
  define_workdir,
)
from advbct_jax.commands.parsing import parse_flags
from advbct_jax.freed_memory import keep_freed_memory

_DESCRIPTION = """\
Trains a chain of upgrades, each step tied to the one before it, or with
--config.tied_to=all to the mean of all before it, and judges the queries of
every step on the gallery of every step.

  advbct chain --config=chain_glyphs --config.base.data.root=FOLDER

Each step is a run of its own, in WORKDIR/1, WORKDIR/2, … The same command goes
on where it was stopped; a longer chain keeps the steps that are done."""


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  keep_freed_memory()
  with exit_with_message():
    values = parse(sys.argv[1:] if arguments is None else arguments)
    root = pathlib.Path(values.workdir or default_workdir(values))
    from advbct_jax.chains.run import describe_chain, run_chain

    if values.dry_run:
      print(describe_chain(values.config, root))
    else:
      run_chain(values.config, root)


def parse(arguments: Sequence[str]) -> flags.FlagValues:
  """Reads the command line, or ends the program."""
  values = flags.FlagValues()
  define_workdir(values)
  flags.DEFINE_bool(
    'dry_run',
    False,
    'build everything, say what would be done, and stop',
    flag_values=values,
  )
  line = define_config(
    values,
    arguments,
    'the chain: a file, or the name of one that comes with advbct_jax',
  )
  parse_flags(values, 'advbct chain', _DESCRIPTION, line)
  return values
