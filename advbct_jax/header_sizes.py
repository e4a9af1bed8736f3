"""How much a reader takes of what a file says of itself.

JSON, ground-truth pickles, what PyTorch's archives unpack to beyond their size
and a line of a table are read whole, so each reader has a bound of its own, far
above what honest files have. One number takes the place of all of them:
`config.data.max_header_bytes`, or, for what has no config, the environment
variable `ADVBCT_MAX_HEADER_BYTES`.
"""

import os

from advbct_jax.errors import InputError, brief

VARIABLE = 'ADVBCT_MAX_HEADER_BYTES'

TO_ALLOW_MORE = (
  f'config.data.max_header_bytes, or {VARIABLE} in the environment, sets '
  'another bound'
)

_allowed = 0


def allow_headers(size: int) -> None:
  """Sets the bound of all readers in this process.

  Args:
    size: in bytes; 0 leaves it to the environment, and then to each reader.

  Raises:
    InputError: if it is negative.
  """
  global _allowed
  if size < 0:
    raise InputError(
      f'config.data.max_header_bytes is {size}; wanted: a number of bytes, or '
      '0 for the bound of each kind of file.'
    )
  _allowed = size


def largest_header(usual: int) -> int:
  """How many bytes a reader takes.

  Args:
    usual: the reader's own bound, where nobody has set another.

  Raises:
    InputError: if the environment sets what is no number of bytes.
  """
  if _allowed:
    return _allowed
  found = os.environ.get(VARIABLE, '')
  if not found:
    return usual
  # Of ASCII digits alone, and not of so many that Python refuses to read them.
  if not (
    found.isascii() and found.isdigit() and len(found) < 20 and int(found)
  ):
    raise InputError(
      f'{VARIABLE} is {brief(found)} in the environment; wanted: a number of '
      'bytes, such as 67108864, or nothing.'
    )
  return int(found)
