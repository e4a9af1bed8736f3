"""Prepares data sets.

python -m advbct_jax.data.prepare own IMAGES_OR_CSV OUT
python -m advbct_jax.data.prepare records NAME:ROOT OUT [--longest_side=512]
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys

from advbct_jax.data import own_images, records
from advbct_jax.data.named_sets import find_data
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
      _prepare_own(flags.images, flags.out, flags.held_out, flags.seed)
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


def _training_command(root: pathlib.Path) -> str:
  name = root.name
  return (
    f'python train.py --config=configs/gldv2.py --config.data.root={root} '
    f'--config.data.name={name} --config.evaluation.data="(\'{name}\',)" '
    f'--workdir=runs/{name}'
  )


def _prepare_own(
  images: pathlib.Path, out: pathlib.Path, held_out: float, seed: int
) -> None:
  split = own_images.prepare_own_images(images, out, held_out, seed)
  print(
    f'{out}: {len(split.train)} images to train on; held out: '
    f'{len(split.index)} index images and {len(split.test)} queries.\n'
    'Next, train on them:\n'
    f'  {_training_command(out)}\n'
    'or first pack them, if they are many:\n'
    f'  python -m advbct_jax.data.prepare records gldv2:{out} {out}_records'
  )


def _prepare_records(
  data: str, out: pathlib.Path, longest_side: int | None
) -> None:
  if longest_side is not None and longest_side < 1:
    raise InputError(
      f'--longest_side: found {longest_side}, wanted a number of pixels. Try '
      '512.'
    )
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
