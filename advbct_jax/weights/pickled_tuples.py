"""Tuples within tuples, as a pickle would make them, counted without making.

A few hundred bytes say a tuple of twice a tuple of twice a tuple …, whose hash
no machine computes in a lifetime, and a dict hashes its keys. Neither Python's
unpickler nor PyTorch's restricted one looks at that.
"""

import pickletools
from typing import IO

# Of one tuple, with all that is in the tuples in it. What tells a tensor in a
# checkpoint has about ten.
_MOST_PARTS = 2**16


def require_small_tuples(file: IO[bytes]) -> None:
  """Follows a pickle's instructions, from where the file is to its end.

  Args:
    file: a pickle; it is left behind it.

  Raises:
    ValueError: if a tuple in it has too many parts, or it is damaged.
  """
  parts: list[int] = []  # of whatever lies on the stack, how many it has
  below: list[list[int]] = []  # the same of the stacks under each mark
  memo: dict[int | None, int] = {}
  for opcode, argument, _ in pickletools.genops(file):
    name = opcode.name
    if name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
      memo[len(memo) if name == 'MEMOIZE' else argument] = parts[-1]
    elif name in ('GET', 'BINGET', 'LONG_BINGET'):
      parts.append(memo.get(argument, 1))
    elif name == 'DUP':
      parts.append(parts[-1])
    elif name == 'MARK':
      below.append(parts)
      parts = []
    else:
      taken, before = [], opcode.stack_before
      if pickletools.stackslice in before:
        taken, parts = parts, below.pop()
        before = before[: before.index(pickletools.markobject)]
      if len(before) > len(parts):
        raise ValueError('it takes more than there is')
      taken += parts[len(parts) - len(before) :]
      del parts[len(parts) - len(before) :]
      whole = 1 + sum(taken) if name.startswith('TUPLE') else 1
      if whole > _MOST_PARTS:
        raise ValueError(f'a tuple of tuples of more than {_MOST_PARTS} parts')
      parts += [whole] * len(opcode.stack_after)
