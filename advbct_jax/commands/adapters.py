"""Maps between the vectors of two encoders."""

import argparse
from collections.abc import Sequence
import pathlib

from advbct_jax.command_line import exit_with_message, warnings_in_a_line
from advbct_jax.commands.parsing import Parser


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  flags = parse(arguments)
  with exit_with_message(), warnings_in_a_line():
    flags.run(flags)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line, or ends the program."""
  parser = Parser(
    prog='advbct adapters',
    description='Maps between the vectors of two encoders, fitted after both '
    'were trained.',
  )
  commands = parser.add_subparsers(dest='command', required=True)
  fit = commands.add_parser(
    'fit',
    help='fits an adapter',
    usage='%(prog)s [options] [KIND] NEW_STORE OLD_STORE ADAPTER',
    description='Fits an adapter to two stores of the same images, in any '
    'order, and writes it to the folder ADAPTER. Where the same one is there '
    'already, nothing is done. KIND is procrustes (the default), ridge, '
    'residual_mlp, drift, diagonal_procrustes, whitened_procrustes, '
    'low_rank_affine, lambda_orthogonal, fastfill or fct.',
  )
  fit.add_argument('names', nargs='+', help=argparse.SUPPRESS)
  fit.add_argument(
    '--direction',
    choices=('backward', 'forward'),
    help='backward maps new vectors (queries) into the old space, forward old '
    'ones (the gallery) into the new space (backward; of fastfill and fct '
    'forward)',
  )
  fit.add_argument(
    '--seed', type=int, default=0, help='of all that is random (%(default)s)'
  )
  fit.add_argument(
    '--penalty',
    type=float,
    help='of ridge, of low_rank_affine and of the ridge map that residual_mlp '
    'and fastfill start from, in parts of the mean variance of a component '
    '(chosen on a held-out tenth)',
  )
  fit.add_argument(
    '--hidden',
    type=int,
    help="width of the hidden layers of residual_mlp (twice the source's), "
    'fastfill (512) and the mixer of fct (2048)',
  )
  fit.add_argument(
    '--steps',
    type=int,
    help='of residual_mlp (500), fastfill (300) and lambda_orthogonal (200)',
  )
  fit.add_argument('--epochs', type=int, help='of fct (80)')
  fit.add_argument(
    '--batch_size',
    type=int,
    help='vectors a step of residual_mlp (512), fastfill (256) and fct (1024)',
  )
  fit.add_argument(
    '--learning_rate',
    type=float,
    help='of the Adam of residual_mlp, lambda_orthogonal (0.001), fastfill and '
    'fct (0.0005)',
  )
  fit.add_argument('--rank', type=int, help='of low_rank_affine (64)')
  fit.add_argument(
    '--threshold',
    type=float,
    help='λ of lambda_orthogonal: how far from a rotation is free (12)',
  )
  fit.add_argument(
    '--sharpness',
    type=float,
    help='α of lambda_orthogonal: how suddenly it is free no more (1)',
  )
  fit.add_argument(
    '--shrinkage',
    type=float,
    help='of procrustes towards --prior, in further pairs a pair (chosen by '
    'cross-validation where pairs are fewer than components or there is a '
    'prior, else 0); of the covariances of whitened_procrustes (chosen)',
  )
  fit.add_argument(
    '--prior',
    type=pathlib.Path,
    help='an earlier adapter that procrustes shrinks towards (the identity, '
    'between equal widths)',
  )
  fit.add_argument(
    '--side',
    type=pathlib.Path,
    metavar='STORE',
    help="of fct and, forward, ridge: a third encoder's vectors of the same "
    'images, which stand beside the old ones',
  )
  fit.set_defaults(run=_fit)
  apply = commands.add_parser(
    'apply',
    help='maps a store',
    description='Makes a store of mapped vectors. A killed command goes on '
    'where it stopped.',
  )
  apply.add_argument('adapter', type=pathlib.Path)
  apply.add_argument('store', type=pathlib.Path)
  apply.add_argument('out_store', type=pathlib.Path)
  apply.add_argument(
    '--side',
    type=pathlib.Path,
    metavar='STORE',
    help='of an adapter that was fitted with side vectors: those of the same '
    'images',
  )
  apply.set_defaults(run=_apply)
  flags, rest = parser.parse_known_args(arguments)
  # Names may stand on both sides of an option; argparse takes the first ones.
  if flags.command == 'fit' and not any(name.startswith('-') for name in rest):
    flags.names, rest = [*flags.names, *rest], []
  if rest:
    parser.error(f'unrecognized arguments: {" ".join(rest)}')
  if flags.command == 'fit':
    _name(flags, fit)
  return flags


def _name(flags: argparse.Namespace, parser: Parser) -> None:
  """Gives the names of `fit` their meanings."""
  if not 3 <= len(flags.names) <= 4:
    parser.error(
      f'{len(flags.names)} names were given ({" ".join(flags.names)}); wanted: '
      '[KIND] NEW_STORE OLD_STORE ADAPTER'
    )
  *kind, new_store, old_store, adapter = flags.names
  flags.kind = kind[0] if kind else 'procrustes'
  flags.new_store = pathlib.Path(new_store)
  flags.old_store = pathlib.Path(old_store)
  flags.adapter = pathlib.Path(adapter)


def _fit(flags: argparse.Namespace) -> None:
  from advbct_jax.adapters.adapter import is_fitted, save_adapter
  from advbct_jax.adapters.fitting import (
    fit_adapter,
    mean_cosine,
    plan_adapter,
  )
  from advbct_jax.adapters.pairs import Pairs
  from advbct_jax.embeddings.store import open_store

  new, old = open_store(flags.new_store), open_store(flags.old_store)
  side_store = open_store(flags.side) if flags.side else None
  options = {
    name: getattr(flags, name)
    for name in (
      *('penalty', 'hidden', 'steps', 'epochs', 'batch_size', 'learning_rate'),
      *('rank', 'threshold', 'sharpness', 'shrinkage', 'prior', 'direction'),
    )
    if getattr(flags, name) is not None
  }
  options |= {'seed': flags.seed, 'side_store': side_store}
  card = plan_adapter(flags.kind, new, old, **options)
  if is_fitted(flags.adapter, card):
    print(f'{flags.adapter}: is there already, fitted to these stores')
    return
  adapter = fit_adapter(flags.kind, new, old, **options)
  save_adapter(adapter, flags.adapter)
  pairs = Pairs(new, old, card.direction, side_store)
  side = 'new' if card.direction == 'forward' else 'old'
  print(
    f'{flags.adapter}: {flags.kind}, width {pairs.width} to '
    f'{adapter.dimension}, fitted to {len(pairs)} images; their mapped and '
    f'{side} vectors have a mean cosine of '
    f'{mean_cosine(adapter, new, old, side_store):.3f}'
  )
  if zeros := new.card.count - len(pairs):
    print(f'{zeros} images were left out, of which a vector is all zero')


def _apply(flags: argparse.Namespace) -> None:
  from advbct_jax.adapters.adapter import load_adapter
  from advbct_jax.adapters.mapping import adapt_store
  from advbct_jax.embeddings.store import open_store

  store = adapt_store(
    load_adapter(flags.adapter),
    open_store(flags.store),
    flags.out_store,
    open_store(flags.side) if flags.side else None,
  )
  print(
    f'{flags.out_store}: {store.card.count} vectors of width '
    f'{store.card.dimension} of {store.card.encoder}'
  )
