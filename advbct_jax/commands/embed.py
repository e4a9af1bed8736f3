"""Embeds the training images with a trained encoder, into a store."""

import argparse
from collections.abc import Sequence
import pathlib

from advbct_jax.command_line import exit_with_message
from advbct_jax.commands.parsing import Parser


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  flags = parse(arguments)
  with exit_with_message():
    from advbct_jax.embed import embed_training_set

    store = embed_training_set(
      flags.workdir,
      flags.data_root,
      flags.data_name,
      batch_size=flags.batch_size,
      workers=flags.workers,
    )
    print(f'{store.path}: {store.card.count} × {store.card.dimension}')


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line, or ends the program."""
  parser = Parser(
    prog='advbct embed',
    description='Embeds the training images with a trained encoder. The store '
    'is WORKDIR/embeddings/NAME-train: another training can be tied to it, and '
    'an adapter fitted to it. A killed call goes on where it stopped.',
  )
  parser.add_argument('workdir', type=pathlib.Path, help='of a finished run')
  parser.add_argument(
    '--data_root', default='', help='as in its config if left out'
  )
  parser.add_argument(
    '--data_name', default='', help='as in its config if left out'
  )
  parser.add_argument(
    '--batch_size',
    type=int,
    default=256,
    help='images at a time (%(default)s)',
  )
  parser.add_argument(
    '--workers',
    type=int,
    default=0,
    help='processes that decode images; 0 takes threads (%(default)s)',
  )
  return parser.parse_args(arguments)
