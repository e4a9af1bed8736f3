"""Draws the default landmarks into a folder, and a sheet of them.

python -m advbct_jax.drawn_landmarks ROOT [--sheet=SHEET.png]
"""

import argparse
from collections.abc import Sequence
import sys

from advbct_jax.drawn_landmarks.data_set import contact_sheet, draw_landmarks
from advbct_jax.errors import InputError


def main(arguments: Sequence[str] | None = None) -> None:
  """Draws the default landmarks into a folder, and a sheet of them."""
  parser = argparse.ArgumentParser(
    prog='python -m advbct_jax.drawn_landmarks', description=main.__doc__
  )
  parser.add_argument('root', help='folder to draw into')
  parser.add_argument('--sheet', help='PNG file for a contact sheet')
  flags = parser.parse_args(arguments)
  try:
    draw_landmarks(flags.root)
    if flags.sheet:
      contact_sheet(flags.root).save(flags.sheet)
  except InputError as error:
    sys.exit(str(error))


if __name__ == '__main__':
  main()
