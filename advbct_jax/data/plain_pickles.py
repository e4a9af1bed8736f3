"""Pickles of plain data, read by a machine that knows no more.

Python's own unpickler is a machine that can look up anything and call it, makes
room for as many objects as a file claims, and hashes keys that take for ever.
Here `pickletools` takes a file apart into its instructions, of which only those
are followed that build lists, tuples, dicts, strings and numbers.
"""

from collections.abc import Callable
import pathlib
import pickletools
from typing import Any

from advbct_jax.errors import InputError
from advbct_jax.header_sizes import TO_ALLOW_MORE, largest_header

# That of Revisited Oxford has 0.2 MiB, of 4,993 images.
_LARGEST_FILE = 2**28

_NAMING = ('GLOBAL', 'INST', 'STACK_GLOBAL')

# What puts its argument on the stack, a constant, or something empty.
_ARGUMENTS = frozenset(
  {
    *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4'),
    *('FLOAT', 'BINFLOAT', 'STRING', 'BINSTRING', 'SHORT_BINSTRING'),
    *('UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'),
    *('BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8'),
  }
)
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY: dict[str, Callable[[], Any]] = {
  'EMPTY_LIST': list,
  'EMPTY_DICT': dict,
  'EMPTY_TUPLE': tuple,
}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


def read_plain_pickle(path: pathlib.Path) -> Any:
  """Reads a pickle of lists, tuples, dicts, strings, bytes and numbers.

  Args:
    path: of the file.

  Raises:
    InputError: if it asks for anything else, is damaged, or has keys that are
      no strings.
  """
  try:
    size = path.stat().st_size
    if size > (largest := largest_header(_LARGEST_FILE)):
      raise ValueError(
        f'{size} bytes, wanted at most {largest}; {TO_ALLOW_MORE}'
      )
    return _run(path.read_bytes())
  except InputError as error:
    raise InputError(f'{path}: {error}.') from error
  # A damaged pickle can raise nearly anything, says the module's manual.
  except Exception as error:
    raise InputError(
      f'{path}: cannot be unpickled ({type(error).__name__}: {error}). '
      'Download it again.'
    ) from error


def _run(pickled: bytes) -> Any:
  """Follows the instructions of a pickle."""
  stack: list[Any] = []
  below: list[list[Any]] = []  # the stacks under each mark
  memo: dict[Any, Any] = {}
  for opcode, argument, _ in pickletools.genops(pickled):
    name = opcode.name
    if name in _NAMING:
      raise _asks_for(argument or '.'.join(map(str, stack[-2:])))
    if name in _ARGUMENTS:
      stack.append(argument)
    elif name in _CONSTANTS:
      stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
      stack.append(_EMPTY[name]())
    elif name in ('PUT', 'BINPUT', 'LONG_BINPUT'):
      memo[argument] = stack[-1]
    elif name == 'MEMOIZE':
      memo[len(memo)] = stack[-1]
    elif name in ('GET', 'BINGET', 'LONG_BINGET'):
      stack.append(memo[argument])
    elif name == 'MARK':
      below.append(stack)
      stack = []
    elif name == 'APPEND':
      item = stack.pop()
      _of_kind(list, stack[-1]).append(item)
    elif name == 'SETITEM':
      key, value = stack[-2:]
      del stack[-2:]
      _fill(stack[-1], [key, value])
    elif name in _TUPLES:
      size = _TUPLES[name]
      items = tuple(stack[-size:])
      if len(items) != size:
        raise ValueError('it takes more than there is')
      stack[-size:] = [items]
    elif name in ('APPENDS', 'SETITEMS', 'LIST', 'TUPLE', 'DICT'):
      items_above, stack = stack, below.pop()
      if name == 'APPENDS':
        _of_kind(list, stack[-1]).extend(items_above)
      elif name == 'SETITEMS':
        _fill(stack[-1], items_above)
      elif name == 'DICT':
        stack.append(_fill({}, items_above))
      else:
        stack.append(
          list(items_above) if name == 'LIST' else tuple(items_above)
        )
    elif name == 'STOP':
      return stack.pop()
    elif name not in ('PROTO', 'FRAME'):
      raise ValueError(f'found the instruction {name}, which data has not')
  raise EOFError('it has no end')


def _fill(found: Any, items: list[Any]) -> dict[str, Any]:
  filled = _of_kind(dict, found)
  for key, value in zip(items[::2], items[1::2], strict=True):
    # A tuple of twice the same tuple of twice … has no hash in a lifetime.
    filled[_of_kind(str, key)] = value
  return filled


def _of_kind(kind: type, found: Any) -> Any:
  if type(found) is not kind:
    raise TypeError(f'found {type(found).__name__}, wanted {kind.__name__}')
  return found


def _asks_for(named: str) -> InputError:
  return InputError(
    f'the pickle asks for {named.replace(" ", ".")}, which could run code; '
    'only lists, dicts, strings and numbers are taken. Download the ground '
    'truth from its authors, or save arrays with `.tolist()`'
  )
