"""A gallery while it is re-embedded."""

import argparse
from collections.abc import Sequence
import pathlib
import tempfile
from typing import TYPE_CHECKING

from advbct_jax.command_line import exit_with_message
from advbct_jax.commands.parsing import Parser
from advbct_jax.errors import InputError

if TYPE_CHECKING:
  import numpy as np

  from advbct_jax.embeddings.store import EmbeddingStore
  from advbct_jax.refresh.plan import Plan


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command line.

  Args:
    arguments: what follows the command's name; None takes `sys.argv`.
  """
  flags = parse(arguments)
  with exit_with_message():
    _plan(flags)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line, or ends the program."""
  parser = Parser(
    prog='advbct refresh',
    description='A gallery while part of it is re-embedded. How policies do '
    'with ground truth is what advbct evaluate --refresh measures.',
  )
  commands = parser.add_subparsers(dest='command', required=True)
  plan = commands.add_parser(
    'plan',
    help='says what to expect of an upgrade, without labels',
    description='Says what to expect of an upgrade from a sample of things '
    'that both encoders have embedded, and may advise against it.',
  )
  plan.add_argument(
    'old',
    type=pathlib.Path,
    help="a store or file (npz, …) of the old encoder's vectors",
  )
  plan.add_argument(
    'new',
    type=pathlib.Path,
    help='the same of new vectors; its things count, in whatever order',
  )
  plan.add_argument(
    '--sample', type=int, default=4000, help='things to look at (%(default)s)'
  )
  plan.add_argument(
    '--new_encoder_alone',
    action='store_true',
    help='the old encoder cannot embed queries any more',
  )
  plan.add_argument(
    '--gallery_size', type=int, help='things to re-embed; gives days and bytes'
  )
  plan.add_argument(
    '--rate',
    type=float,
    help='things a second that the new encoder embeds, as advbct embed prints',
  )
  plan.add_argument(
    '--seed', type=int, default=0, help='of the sample (%(default)s)'
  )
  return parser.parse_args(arguments)


def _plan(flags: argparse.Namespace) -> None:
  from advbct_jax.refresh.plan import plan_refresh

  old, new, labels = _read_sample(flags)
  plan = plan_refresh(
    old,
    new,
    labels,
    old_at_query_time=not flags.new_encoder_alone,
    seed=flags.seed,
  )
  print(
    f'{plan.pairs} things in both spaces\n'
    f'the old encoder finds {100 * plan.agreement:.1f}% of what the new one '
    'finds first; after a rotation their vectors have a mean cosine of '
    f'{plan.cosine:.3f}'
  )
  if plan.curves:
    _print_curves(plan)
  if flags.gallery_size:
    gigabytes = flags.gallery_size * new.shape[1] * 4 / 1e9
    print(f'\nnew vectors of {flags.gallery_size} things: {gigabytes:.1f} GB')
    if flags.rate:
      days = flags.gallery_size / flags.rate / 86400
      print(f'to re-embed them: {days:.1f} days at {flags.rate:g} a second')
  print(f'\n{plan.advice}')


def _read_sample(
  flags: argparse.Namespace,
) -> tuple['np.ndarray', 'np.ndarray', list[str] | None]:
  """Old and new vectors of some things, and their classes if there are any."""
  import numpy as np

  from advbct_jax.adapters.pairs import Pairs

  with tempfile.TemporaryDirectory() as folder:
    pairs = Pairs(
      _open_one(flags.new, pathlib.Path(folder, 'new')),
      _open_one(flags.old, pathlib.Path(folder, 'old')),
    )
    rows = np.flatnonzero(pairs.directed)
    if len(rows) > flags.sample:
      random = np.random.default_rng(flags.seed)
      rows = np.sort(random.choice(rows, flags.sample, replace=False))
    new, old = pairs.read(rows)
    # Whichever encoder was trained on some of them: a class is a class.
    class_of = {
      name: label
      for store in (pairs.old, pairs.new)
      for name, label in zip(store.ids(), store.labels() or (), strict=False)
    }
    ids = pairs.new.ids()
    labels = [class_of.get(ids[row], '') for row in rows]
  return old, new, labels if class_of else None


def _open_one(path: pathlib.Path, made: pathlib.Path) -> 'EmbeddingStore':
  """A store, or one that is made of the vectors of a file."""
  from advbct_jax.convert.vector_folders import find_stores
  from advbct_jax.embeddings.store import open_store

  stores = find_stores(path, made)
  if stores == path:
    return open_store(path)
  first, *others = sorted(one for one in stores.iterdir() if one.is_dir())
  if others:
    raise InputError(
      f'{path}: found vectors of several things '
      f'({", ".join(one.name for one in (first, *others))}); wanted: those of '
      'one sample. Name a file.'
    )
  return open_store(first)


def _print_curves(plan: 'Plan') -> None:
  from advbct_jax.refresh.plan import NEIGHBOURS, PLANNED_SHARES

  wanted = (
    'what is of the class of the thing that asks'
    if plan.by_classes
    else f'what the new encoder finds first ({NEIGHBOURS}); classes would say '
    'what is right'
  )
  print(
    '\npercent of the way from the old encoder to the new one, ± standard '
    'error,\nwhile a gallery of this sample is re-embedded; wanted is '
    f'{wanted}'
  )
  head = ['policy', *(f'{share}%' for share in PLANNED_SHARES)]
  table = [head] + [
    [
      name,
      *(f'{way:.0f}±{error:.0f}' for way, error in zip(*curve, strict=True)),
    ]
    for name, curve in plan.curves.items()
  ]
  for row in table:
    print('  '.join([row[0].ljust(12), *(cell.rjust(8) for cell in row[1:])]))
