"""Prepares data sets.

python -m advbct_jax.data.prepare own IMAGES_OR_CSV OUT
python -m advbct_jax.data.prepare records NAME:ROOT OUT [--longest_side=512]
"""

import argparse
from collections.abc import Sequence
import pathlib
import shlex
import sys

from advbct_jax.data.file_names import printable
from advbct_jax.data.named_sets import find_data
from advbct_jax.data.own_images import Split, prepare_own_images
from advbct_jax.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line.

  Args:
    arguments: what follows the program's name; None takes `sys.argv`.

  Returns:
    The exit status: 0, or 2 where the input is to be mended.
  """
  flags = _build_parser().parse_args(arguments)
  try:
    if flags.command == 'own':
      split = prepare_own_images(
        flags.images, flags.out, flags.held_out, flags.seed, flags.upright
      )
      print(_say_what_next(flags.out, split))
    else:
      _prepare_records(flags.data, flags.out, flags.longest_side)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


def _build_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m advbct_jax.data.prepare', description='Prepares data sets.'
  )
  commands = parser.add_subparsers(dest='command', required=True)

  own = commands.add_parser(
    'own', help="bring your own images into GLDv2's layout"
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

  packed = commands.add_parser(
    'records', help='pack a data set into ArrayRecord files'
  )
  packed.add_argument(
    'data', help='NAME:ROOT, such as gldv2:/data/gldv2 or roxford5k:/data'
  )
  packed.add_argument('out', type=pathlib.Path, help='the new folder')
  packed.add_argument(
    '--longest_side',
    type=int,
    help='in pixels; larger images are shrunk to it, save cropped queries',
  )
  return parser


def _training_command(root: pathlib.Path, classes: int | None = None) -> str:
  """The command that trains on a folder, of so many classes, if few."""
  name = root.name
  command = [
    'python train.py --config=configs/gldv2.py',
    shlex.quote(f'--config.data.root={printable(root)}'),
    shlex.quote(f'--config.data.name={printable(name)}'),
    f'--config.evaluation.data="({printable(name)!r},)"',
    shlex.quote(f'--workdir=runs/{printable(name)}'),
  ]
  # Of three classes the config's 30% are none.
  if classes is not None and classes < 4:
    command.append('--config.data.split.old_fraction=0.5')
  return ' '.join(command)


def _say_what_next(out: pathlib.Path, split: Split) -> str:
  """What has become of own images, and what to do with them."""
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
      '  python evaluate.py --old=… --new=… '
      + shlex.quote(f'--data={printable(out.name)}:{printable(out)}')
    )
  data = shlex.quote(f'gldv2:{printable(out)}')
  return done + (
    'Next, train on them:\n'
    f'  {_training_command(out, classes)}\n'
    'or first pack them, if they are many:\n'
    f'  python -m advbct_jax.data.prepare records {data} '
    + shlex.quote(f'{printable(out)}_records')
  )


def _prepare_records(
  data: str, out: pathlib.Path, longest_side: int | None
) -> None:
  if longest_side is not None and longest_side < 1:
    raise InputError(
      f'--longest_side: found {longest_side}, wanted a number of pixels. Try '
      '512.'
    )
  # Here, for whoever has none to pack need not wait for TFDS.
  from advbct_jax.data import records

  found = find_data(data)
  if found.layout == 'gldv2':
    records.prepare_gldv2(found.root, out, longest_side)
    use = _training_command(out)
  else:
    records.prepare_revisited(found.root, found.name, out, longest_side)
    use = f'python evaluate.py --old=… --new=… --data={found.name}:{out}'
  print(f'{out}: whole, and takes the place of {found.root}. Next:\n  {use}')


if __name__ == '__main__':
  sys.exit(main())
