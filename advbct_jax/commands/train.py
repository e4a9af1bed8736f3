"""Trains an encoder that stays compatible with an old one, and judges it."""

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
from advbct_jax.commands.process_flags import (
  define_processes,
  start_processes,
)
from advbct_jax.freed_memory import keep_freed_memory
from advbct_jax.processes import say

_DESCRIPTION = """\
Trains an encoder that stays compatible with an old one, and judges it.

  advbct train --config=gldv2 --config.data.root=FOLDER

What the config needs and lacks (the old encoder, its embeddings) is made first.
The same command goes on where it was stopped, or prints the result where all is
done. Any field of the config can be set: --config.batch_size=512."""


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  keep_freed_memory()
  with exit_with_message():
    values = parse(sys.argv[1:] if arguments is None else arguments)
    workdir = pathlib.Path(values.workdir or default_workdir(values))
    start_processes(values)
    from advbct_jax.data.configured_sets import open_data
    from advbct_jax.experiment import settle_vectors, train_and_judge
    from advbct_jax.training.upgrade import describe_upgrade

    if values.dry_run:
      config = settle_vectors(values.config, workdir)
      open_data(config)
      say(describe_upgrade(config, workdir))
    else:
      train_and_judge(values.config, workdir)


def parse(arguments: Sequence[str]) -> flags.FlagValues:
  """Reads the command line, or ends the program."""
  values = flags.FlagValues()
  define_workdir(values)
  define_processes(values)
  flags.DEFINE_bool(
    'dry_run',
    False,
    'build everything, say what would be done, and stop',
    flag_values=values,
  )
  line = define_config(
    values,
    arguments,
    'the experiment: a file, or the name of one that comes with advbct_jax',
  )
  parse_flags(values, 'advbct train', _DESCRIPTION, line)
  return values
