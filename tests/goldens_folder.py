"""Where the figures of the published implementation lie."""

import os
import pathlib

_OUR_COPY = pathlib.Path(__file__).parent / 'goldens'


def golden_files(pattern: str) -> list[pathlib.Path]:
  """Every golden file that matches a pattern.

  The folder is $ADVBCT_GOLDENS, which need not have files of every pattern, or
  else our own copy, which must.
  """
  folder = pathlib.Path(os.environ.get('ADVBCT_GOLDENS', _OUR_COPY))
  files = sorted(folder.glob(pattern))
  assert files or folder != _OUR_COPY, f'no {pattern} in {folder}'
  return files
