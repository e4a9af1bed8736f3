"""Prepares data: own images, vectors, records, the drawn landmarks."""

import argparse
from collections.abc import Sequence
import os
import pathlib
import shlex
from typing import TYPE_CHECKING

from advbct_jax import beam_workers
from advbct_jax.command_line import exit_with_message
from advbct_jax.commands.parsing import Parser
from advbct_jax.convert.vector_columns import (
  add_column_flags,
  read_column_flags,
)
from advbct_jax.errors import InputError

if TYPE_CHECKING:
  from advbct_jax.data.own_images import Split


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
  own.add_argument(
    '--upright',
    action='store_true',
    default=True,
    help='turn images by their EXIF orientation, as viewers do (the default)',
  )
  own.add_argument(
    '--noupright',
    dest='upright',
    action='store_false',
    help='take images as they are stored',
  )
  _add_max_pixels(own)
  own.set_defaults(run=_own)

  _add_vectors(commands)

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
  _add_max_pixels(records)
  records.add_argument('--beam', metavar='OPTIONS', help=beam_workers.HELP)
  records.set_defaults(run=_records)

  _add_check(commands)

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


def _add_max_pixels(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--max_pixels',
    type=int,
    help='images of more are refused by their header (89478485, which take '
    '256 MiB as RGB)',
  )


def _read_max_pixels(flags: argparse.Namespace) -> int:
  from advbct_jax.data.decoding import MAX_PIXELS

  found = MAX_PIXELS if flags.max_pixels is None else flags.max_pixels
  if found < 1:
    raise InputError(
      f'--max_pixels: found {found}, wanted a number of pixels, such as '
      f'{MAX_PIXELS}.'
    )
  return found


def _add_check(commands: argparse._SubParsersAction) -> None:
  parser = commands.add_parser(
    'check',
    help='find images that are broken, too small, there twice, or leak',
    description='Reads every image of a data set once, and writes a CSV file '
    'with a line for each that is unreadable, too small, a duplicate of an '
    'earlier one, or shared between training and what is judged on; and for '
    'those that look as if they were. Training honours the file: '
    '--config.data.checked=CSV, --config.data.on_problem=stop or skip. A check '
    'that was killed goes on when it is run again.',
  )
  parser.add_argument(
    'data', help='NAME:ROOT, such as gldv2:/data/gldv2; or ROOT alone'
  )
  parser.add_argument(
    '--out', type=pathlib.Path, help='the CSV file (ROOT/checked.csv)'
  )
  parser.add_argument(
    '--least_size',
    type=int,
    default=8,
    help='pixels that the shorter side should have (%(default)s)',
  )
  parser.add_argument(
    '--distance',
    type=int,
    default=4,
    help='in how many bits, of 64, the hashes of images differ that look the '
    'same, 0 to 7 (%(default)s)',
  )
  _add_max_pixels(parser)
  parser.set_defaults(run=_check)


def _add_vectors(commands: argparse._SubParsersAction) -> None:
  parser = commands.add_parser(
    'vectors',
    help="make a data set without images, from two encoders' vectors",
    description='Makes a data set of vectors alone: stores of an old and a new '
    'encoder, and the tables that say what is trained on, searched and asked. '
    'OLD and NEW are folders of files (.npy, .npz, .parquet, .faiss) called '
    'train, index and test, with the same ids.',
  )
  parser.add_argument('old', type=pathlib.Path, help="the old encoder's files")
  parser.add_argument('new', type=pathlib.Path, help="the new encoder's files")
  parser.add_argument('out', type=pathlib.Path, help='the new folder')
  parser.add_argument(
    '--labels',
    type=pathlib.Path,
    help='a CSV file, id,label, where the vectors have no labels with them',
  )
  parser.add_argument(
    '--solution',
    type=pathlib.Path,
    help='the ground truth, a CSV file with id,images,Usage as GLDv2 has it '
    '(equal labels, where index and test have some)',
  )
  parser.add_argument('--old_encoder', help='what it is called (OUT-old)')
  parser.add_argument('--new_encoder', help='what it is called (OUT-new)')
  add_column_flags(parser)
  parser.add_argument(
    '--metric',
    choices=('cosine', 'inner_product', 'l2'),
    help='what the vectors are compared by now (cosine); see to-store',
  )
  parser.set_defaults(run=_vectors)


def _vectors(flags: argparse.Namespace) -> None:
  from advbct_jax.convert.vector_data import prepare_vectors
  from advbct_jax.data.file_names import printable

  print(
    prepare_vectors(
      flags.old,
      flags.new,
      flags.out,
      labels=flags.labels,
      solution=flags.solution,
      old_encoder=flags.old_encoder,
      new_encoder=flags.new_encoder,
      columns=read_column_flags(flags),
      metric=flags.metric,
    )
  )
  out = printable(flags.out)
  data = shlex.quote(f'--data={printable(flags.out.name)}:{out}')
  old, new = (shlex.quote(f'--{side}={out}/{side}') for side in ('old', 'new'))
  print(
    'Next, judge the two encoders, or train a head on the new one:\n'
    f'  advbct evaluate {old} {new} {data}\n'
    '  advbct train --config=vectors '
    + shlex.quote(f'--config.data.root={out}')
  )


def _training_command(root: pathlib.Path, classes: int | None = None) -> str:
  """The command that trains on a folder, of so many classes, if few."""
  from advbct_jax.data.file_names import printable

  name = root.name
  command = [
    'advbct train --config=gldv2',
    shlex.quote(f'--config.data.root={printable(root)}'),
    shlex.quote(f'--config.data.name={printable(name)}'),
    f'--config.evaluation.data="({printable(name)!r},)"',
    shlex.quote(f'--workdir=runs/{printable(name)}'),
  ]
  # Of three classes the config's 30% are none.
  if classes is not None and classes < 4:
    command.append('--config.data.split.old_fraction=0.5')
  return ' '.join(command)


def _own(flags: argparse.Namespace) -> None:
  from advbct_jax.data.own_images import prepare_own_images

  split = prepare_own_images(
    flags.images,
    flags.out,
    flags.held_out,
    flags.seed,
    flags.upright,
    _read_max_pixels(flags),
  )
  print(_say_what_next(flags.out, split))


def _say_what_next(out: pathlib.Path, split: 'Split') -> str:
  """What has become of own images, and what to do with them."""
  from advbct_jax.data.file_names import printable

  done = (
    f'{printable(out)}: {len(split.train)} images to train on; held out: '
    f'{len(split.index)} index images and {len(split.test)} queries.\n'
  )
  classes = len({image.landmark for image in split.train})
  if classes < 2:
    return done + (
      'One class is left to train on, and training needs two: add a class, or '
      'lower --held_out, and prepare them again. As they are, encoders can be '
      'judged on them:\n'
      '  advbct evaluate --old=… --new=… '
      + shlex.quote(f'--data={printable(out.name)}:{printable(out)}')
    )
  data = shlex.quote(f'gldv2:{printable(out)}')
  return done + (
    'Next, train on them:\n'
    f'  {_training_command(out, classes)}\n'
    'or first pack them, if they are many:\n'
    f'  advbct prepare records {data} '
    + shlex.quote(f'{printable(out)}_records')
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
  max_pixels = _read_max_pixels(flags)
  found = find_data(flags.data)
  if found.layout == 'gldv2':
    records.prepare_gldv2(found.root, out, longest_side, max_pixels, flags.beam)
    use = _training_command(out)
  else:
    records.prepare_revisited(
      found.root, found.name, out, longest_side, max_pixels, flags.beam
    )
    use = f'advbct evaluate --old=… --new=… --data={found.name}:{out}'
  print(f'{out}: whole, and takes the place of {found.root}. Next:\n  {use}')


def _check(flags: argparse.Namespace) -> None:
  from advbct_jax.data.data_check import check_data
  from advbct_jax.data.file_names import printable
  from advbct_jax.data.named_sets import find_data, open_image_sets
  from advbct_jax.data.problem_tables import PROBLEMS, write_problems
  from advbct_jax.locks import hold_name

  spec = flags.data
  if ':' not in spec and (root := pathlib.Path(spec)).is_dir():
    spec = f'{root.resolve().name}:{spec}'
  found = find_data(spec)
  out = flags.out or found.root / 'checked.csv'
  # Millions of images should not be read for nothing.
  if not os.access(out.parent, os.W_OK):
    raise InputError(
      f'{printable(out)}: found no folder that can be written to, wanted a '
      'place for the table. Say --out=CSV.'
    )
  image_sets = open_image_sets(found, _read_max_pixels(flags))
  with hold_name(out, 'checks images'):
    progress = out.with_name(f'{out.name}.progress')
    problems = check_data(
      image_sets, flags.least_size, flags.distance, progress
    )
    write_problems(out, problems)
  for part, image_set in image_sets.items():
    kinds = [it.problem for it in problems if it.part == part]
    counts = ', '.join(
      f'{kinds.count(kind)} {kind}' for kind in PROBLEMS if kind in kinds
    )
    print(f'{part}: {len(image_set)} images; {counts or "no problem"}')
  print(f'{printable(out)}: {len(problems)} lines')
  if 'train' in image_sets and problems:
    use = shlex.quote(f'--config.data.checked={printable(out)}')
    print(
      'Next, look at them, and train without the worst:\n'
      f'  advbct train … {use} --config.data.on_problem=skip'
    )


def _landmarks(flags: argparse.Namespace) -> None:
  from advbct_jax.drawn_landmarks.data_set import contact_sheet, draw_landmarks

  draw_landmarks(flags.out)
  if flags.sheet:
    contact_sheet(flags.out).save(flags.sheet)
