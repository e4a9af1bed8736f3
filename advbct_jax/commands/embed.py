"""Embeds images with a trained encoder, into stores of its run."""

import argparse
from collections.abc import Sequence
import pathlib

from advbct_jax import beam_workers
from advbct_jax.command_line import exit_with_message
from advbct_jax.commands.parsing import Parser
from advbct_jax.commands.process_flags import add_processes, start_processes
from advbct_jax.processes import say


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  flags = parse(arguments)
  with exit_with_message():
    start_processes(flags)
    from advbct_jax.training.run_stores import embed_named_sets

    for store in embed_named_sets(
      flags.workdir,
      [spec for spec in flags.data.split(',') if spec],
      flags.data_root,
      flags.data_name,
      crop_queries=flags.crop_queries,
      batch_size=flags.batch_size,
      workers=flags.workers,
      dtype=flags.dtype,
      features=flags.features,
      chunk_rows=flags.chunk_rows,
      beam=flags.beam,
    ):
      say(f'{store.path}: {store.card.count} × {store.card.dimension}')


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line, or ends the program."""
  parser = Parser(
    prog='advbct embed',
    description='Embeds images with a trained encoder, into stores in '
    'WORKDIR/embeddings: those that it was trained on, so that another '
    'training can be tied to it and an adapter fitted to it; or, with --data, '
    'the index and the queries of retrieval sets, which an evaluation then '
    'finds. A killed call goes on where it stopped.',
  )
  parser.add_argument('workdir', type=pathlib.Path, help='of a finished run')
  parser.add_argument(
    '--data',
    default='',
    help='retrieval sets: NAME or NAME:ROOT, …; the training images if left '
    'out',
  )
  parser.add_argument(
    '--data_root', default='', help='as in its config if left out'
  )
  parser.add_argument(
    '--data_name',
    default='',
    help='of the training images; as in its config if left out',
  )
  parser.add_argument(
    '--features',
    default='',
    help='the stores of the vectors that a head takes; as in its config if '
    'left out',
  )
  parser.add_argument(
    '--nocrop_queries',
    dest='crop_queries',
    action='store_false',
    help='embed queries whole, not cropped to their boxes',
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
    help='processes that decode images; 0 takes a thread a core (%(default)s)',
  )
  parser.add_argument(
    '--dtype',
    choices=('float32', 'bfloat16'),
    default='float32',
    help='what the encoder computes in; stores of the two are not mixed '
    '(%(default)s)',
  )
  parser.add_argument(
    '--chunk_rows',
    type=int,
    default=65536,
    help='images a chunk of a new store: what a kill loses, and a task of '
    "Beam's workers (%(default)s)",
  )
  parser.add_argument('--beam', metavar='OPTIONS', help=beam_workers.HELP)
  add_processes(parser)
  return parser.parse_args(arguments)
