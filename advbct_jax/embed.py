"""Embeds images with a trained encoder, into stores.

  python -m advbct_jax.embed RUN [--data_root=FOLDER] [--data_name=NAME]
  python -m advbct_jax.embed RUN --data=roxford5k,rparis6k --data_root=FOLDER

The stores lie in RUN/embeddings. That of the training images is NAME-train:
another training can be tied to it, and an adapter fitted to it. With --data
they are those of the index and the queries of retrieval sets, which an
evaluation then finds. A killed call goes on where it stopped.
"""

import argparse
from collections.abc import Sequence
import pathlib

from advbct_jax.command_line import exit_with_message


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the program's name; None takes `sys.argv`.
  """
  flags = _build_parser().parse_args(arguments)
  with exit_with_message():
    # Only now: importing JAX and Orbax takes seconds, --help should not.
    from advbct_jax.training.run_stores import embed_named_sets

    for store in embed_named_sets(
      flags.run,
      [spec for spec in flags.data.split(',') if spec],
      flags.data_root,
      flags.data_name,
      crop_queries=flags.crop_queries,
      batch_size=flags.batch_size,
      workers=flags.workers,
      dtype=flags.dtype,
    ):
      print(f'{store.path}: {store.card.count} × {store.card.dimension}')


def _build_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m advbct_jax.embed',
    description='Embeds images with a trained encoder, into RUN/embeddings: '
    'the training images, or the index and queries of retrieval sets.',
  )
  parser.add_argument('run', type=pathlib.Path, help='the workdir of a run')
  parser.add_argument(
    '--data',
    default='',
    help='retrieval sets, NAME or NAME:ROOT, …; the training images if left',
  )
  parser.add_argument(
    '--data_root', default='', help='as in its config if left'
  )
  parser.add_argument(
    '--data_name',
    default='',
    help='of the training images; as in its config if left',
  )
  parser.add_argument(
    '--nocrop_queries',
    dest='crop_queries',
    action='store_false',
    help='embed queries whole, not cropped to their boxes',
  )
  parser.add_argument('--batch_size', type=int, default=256)
  parser.add_argument(
    '--workers',
    type=int,
    default=0,
    help='processes that decode images; 0 takes a thread a core',
  )
  parser.add_argument(
    '--dtype',
    choices=('float32', 'bfloat16'),
    default='float32',
    help='what the encoder computes in; stores of the two are not mixed',
  )
  return parser


if __name__ == '__main__':
  main()
