"""JSON objects that are read as dataclasses, field by field."""

import dataclasses
import json
import pathlib
import types
import typing
from typing import Any, TypeVar

from advbct_jax.errors import brief, brief_list
from advbct_jax.header_sizes import TO_ALLOW_MORE, largest_header

T = TypeVar('T')

# In bytes. Cards, notes and configs have a few thousand.
_LARGEST = 2**26


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON file of a size that cards and configs have.

  Args:
    path: of the file.

  Raises:
    OSError: if it cannot be read.
    ValueError: if it is no JSON in UTF-8, or larger or deeper than anything
      that is kept here.
  """
  largest = largest_header(_LARGEST)
  with path.open('rb') as file:
    text = file.read(largest + 1)
  if len(text) > largest:
    raise ValueError(f'more than {largest} bytes; {TO_ALLOW_MORE}')
  return parse_json(text)


def parse_json(text: str | bytes) -> Any:
  """Reads JSON.

  Args:
    text: in UTF-8 if it is bytes.

  Raises:
    ValueError: if it is none, or brackets stand in brackets too deep.
  """
  try:
    return json.loads(text)
  except RecursionError as error:
    raise ValueError('brackets in brackets, too deep to be read') from error


def parse_fields(kind: type[T], text: str | bytes) -> T:
  """Reads a dataclass from a JSON object, and nothing that it isn't.

  Args:
    kind: the dataclass, whose fields are text, numbers, truth values, lists,
      dicts, or one of these or None.
    text: the object; fields that have defaults may be missing.

  Raises:
    ValueError: if it is no JSON object, a field is unknown or missing, or has
      a value of another type; the message names the fields.

  >>> @dataclasses.dataclass
  ... class Point:
  ...   x: int
  ...   name: str | None = None
  >>> parse_fields(Point, '{"x": 3}')
  Point(x=3, name=None)
  >>> parse_fields(Point, '{"x": "3", "name": null}')
  Traceback (most recent call last):
  ValueError: x is '3', wanted int
  """
  return take_fields(kind, parse_json(text))


def take_fields(kind: type[T], described: Any) -> T:
  """Makes a dataclass of what JSON has given; see `parse_fields`."""
  if not isinstance(described, dict):
    raise ValueError(f'found {type(described).__name__}, wanted an object')
  fields: Any = dataclasses.fields(kind)  # type: ignore[arg-type]
  known = {field.name for field in fields}
  needed = {
    field.name
    for field in fields
    if field.default is field.default_factory is dataclasses.MISSING
  }
  if unknown := sorted(described.keys() - known):
    raise ValueError(
      f'{brief_list(unknown)}: unknown here, so it may be of a later version'
    )
  if missing := sorted(needed - described.keys()):
    raise ValueError(f'{", ".join(missing)}: missing')
  wanted = typing.get_type_hints(kind)
  for name, value in described.items():
    if not _is_of(value, wanted[name]):
      raise ValueError(
        f'{name} is {brief(value)}, wanted {_words(wanted[name])}'
      )
  return kind(**described)


def _is_of(value: Any, wanted: Any) -> bool:
  if isinstance(wanted, types.UnionType):
    return any(_is_of(value, one) for one in typing.get_args(wanted))
  # Python's True is an int; JSON's is not, but its 1 may be a float.
  if isinstance(value, bool):
    return wanted in (bool, Any)
  if wanted is float:
    return isinstance(value, int | float)
  return wanted is Any or isinstance(value, typing.get_origin(wanted) or wanted)


def _words(wanted: Any) -> str:
  return wanted.__name__ if isinstance(wanted, type) else str(wanted)
