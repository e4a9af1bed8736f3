"""Prepares data: own images, records, the drawn landmarks."""

import argparse
from collections.abc import Sequence
import pathlib

from advbct_jax.command_line import exit_with_message
from advbct_jax.commands.parsing import Parser
from advbct_jax.errors import InputError


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
  parser = Parser(prog='advbct prepare', description='Prepares data sets.')
  commands = parser.add_subparsers(dest='command', required=True)

  own = commands.add_parser(
    'own',
    help="bring your own images into GLDv2's layout",
    description="Brings your own images into GLDv2's layout.",
  )
  own.add_argument(
    'images',
    type=pathlib.Path,
    help='a folder with a folder a class, or a CSV file: path,label',
  )
  own.add_argument('out', type=pathlib.Path, help='the new folder')
  own.add_argument(
    '--held_out',
    type=float,
    default=0.2,
    help='the part of the classes kept for index and queries (%(default)s)',
  )
  own.add_argument(
    '--seed', type=int, default=0, help='chooses them (%(default)s)'
  )
  own.set_defaults(run=_own)

  records = commands.add_parser(
    'records',
    help='pack a data set into ArrayRecord files',
    description='Packs a data set into ArrayRecord files, which take its '
    'place.',
  )
  records.add_argument(
    'data', help='NAME:ROOT, such as gldv2:/data/gldv2 or roxford5k:/data'
  )
  records.add_argument('out', type=pathlib.Path, help='the new folder')
  records.add_argument(
    '--longest_side',
    type=int,
    help='in pixels; larger images are shrunk to it, save cropped queries',
  )
  records.set_defaults(run=_records)

  landmarks = commands.add_parser(
    'landmarks',
    help='draw landmarks, as those of the demo',
    description='Draws the default landmarks into a folder, and a sheet of '
    'them.',
  )
  landmarks.add_argument('out', help='the new folder')
  landmarks.add_argument('--sheet', help='PNG file for a contact sheet')
  landmarks.set_defaults(run=_landmarks)
  return parser.parse_args(arguments)


def _training_command(root: pathlib.Path) -> str:
  name = root.name
  return (
    f'advbct train --config=gldv2 --config.data.root={root} '
    f'--config.data.name={name} --config.evaluation.data="(\'{name}\',)" '
    f'--workdir=runs/{name}'
  )


def _own(flags: argparse.Namespace) -> None:
  from advbct_jax.data.own_images import prepare_own_images

  out = flags.out
  split = prepare_own_images(flags.images, out, flags.held_out, flags.seed)
  print(
    f'{out}: {len(split.train)} images to train on; held out: '
    f'{len(split.index)} index images and {len(split.test)} queries.\n'
    'Next, train on them:\n'
    f'  {_training_command(out)}\n'
    'or first pack them, if they are many:\n'
    f'  advbct prepare records gldv2:{out} {out}_records'
  )


def _records(flags: argparse.Namespace) -> None:
  from advbct_jax.data import records
  from advbct_jax.data.named_sets import find_data

  out, longest_side = flags.out, flags.longest_side
  if longest_side is not None and longest_side < 1:
    raise InputError(
      f'--longest_side: found {longest_side}, wanted a number of pixels. Try '
      '512.'
    )
  found = find_data(flags.data)
  if found.layout == 'gldv2':
    records.prepare_gldv2(found.root, out, longest_side)
    use = _training_command(out)
  else:
    records.prepare_revisited(found.root, found.name, out, longest_side)
    use = f'advbct evaluate --old=… --new=… --data={found.name}:{out}'
  print(f'{out}: whole, and takes the place of {found.root}. Next:\n  {use}')


def _landmarks(flags: argparse.Namespace) -> None:
  from advbct_jax.drawn_landmarks.data_set import contact_sheet, draw_landmarks

  draw_landmarks(flags.out)
  if flags.sheet:
    contact_sheet(flags.out).save(flags.sheet)
