"""Maps of a new encoder's vectors into the old encoder's space."""

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
    flags.run(flags)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line, or ends the program."""
  parser = Parser(
    prog='advbct adapters',
    description="Maps of a new encoder's vectors into the old encoder's "
    'space, fitted after both were trained.',
  )
  commands = parser.add_subparsers(dest='command', required=True)
  fit = commands.add_parser(
    'fit',
    help='fits an adapter',
    description='Fits an adapter to two stores of the same images, in any '
    'order. Where the same one is there already, nothing is done.',
  )
  fit.add_argument('kind', help='procrustes, ridge or residual_mlp')
  fit.add_argument('new_store', type=pathlib.Path)
  fit.add_argument('old_store', type=pathlib.Path)
  fit.add_argument('adapter', type=pathlib.Path, help='its folder')
  fit.add_argument(
    '--seed', type=int, default=0, help='of all that is random (%(default)s)'
  )
  fit.add_argument(
    '--penalty',
    type=float,
    help='of ridge, and of the ridge map that residual_mlp starts from, in '
    'parts of the mean variance of a component (chosen on a held-out tenth)',
  )
  fit.add_argument(
    '--hidden',
    type=int,
    help="width of residual_mlp's hidden layer (twice the new vectors')",
  )
  fit.add_argument('--steps', type=int, help='of residual_mlp (500)')
  fit.add_argument(
    '--batch_size', type=int, help='vectors a step of residual_mlp (512)'
  )
  fit.add_argument(
    '--learning_rate', type=float, help="of residual_mlp's Adam (0.001)"
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
  apply.set_defaults(run=_apply)
  return parser.parse_args(arguments)


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
  options = {
    name: getattr(flags, name)
    for name in ('penalty', 'hidden', 'steps', 'batch_size', 'learning_rate')
    if getattr(flags, name) is not None
  }
  card = plan_adapter(flags.kind, new, old, seed=flags.seed, **options)
  if is_fitted(flags.adapter, card):
    print(f'{flags.adapter}: is there already, fitted to these stores')
    return
  adapter = fit_adapter(flags.kind, new, old, seed=flags.seed, **options)
  save_adapter(adapter, flags.adapter)
  pairs = Pairs(new, old)
  print(
    f'{flags.adapter}: {flags.kind}, width {new.card.dimension} to '
    f'{adapter.dimension}, fitted to {len(pairs)} images; their mapped and '
    f'old vectors have a mean cosine of {mean_cosine(adapter, new, old):.3f}'
  )
  if zeros := new.card.count - len(pairs):
    print(
      f'{zeros} images were left out, since their new or their old vector is '
      'all zero'
    )


def _apply(flags: argparse.Namespace) -> None:
  from advbct_jax.adapters.adapter import load_adapter
  from advbct_jax.adapters.mapping import adapt_store
  from advbct_jax.embeddings.store import open_store

  store = adapt_store(
    load_adapter(flags.adapter), open_store(flags.store), flags.out_store
  )
  print(
    f'{flags.out_store}: {store.card.count} vectors of width '
    f'{store.card.dimension} of {store.card.encoder}'
  )
