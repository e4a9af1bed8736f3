"""Where published ground truth and real images lie, if they are there."""

import os
import pathlib

_BESIDE_THE_REPOSITORY = pathlib.Path(__file__).parents[2] / 'shared/data'


def real_data(pattern: str) -> list[pathlib.Path]:
  """Every file that matches a pattern in $ADVBCT_DATA; none without one."""
  folder = os.environ.get('ADVBCT_DATA', _BESIDE_THE_REPOSITORY)
  return sorted(pathlib.Path(folder).glob(pattern))
