"""Weights and vectors come in and go out.

python -m advbct_jax.convert --help
"""

import argparse
from collections.abc import Sequence

from advbct_jax.command_line import exit_with_message
from advbct_jax.convert import (
  faiss_export,
  pytorch_commands,
  stores,
)


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the program's name; None takes `sys.argv`.
  """
  flags = _build_parser().parse_args(arguments)
  with exit_with_message():
    flags.run(flags)


def _build_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m advbct_jax.convert',
    description='Weights and vectors come in and go out.',
  )
  commands = parser.add_subparsers(dest='command', required=True)
  for module in (pytorch_commands, stores, faiss_export):
    module.add_commands(commands)
  return parser


if __name__ == '__main__':
  main()
