"""JSON objects that are read as dataclasses, field by field."""

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

T = TypeVar('T')


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
  described = json.loads(text)
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
      f'{", ".join(unknown)}: unknown here, so it may be of a later version'
    )
  if missing := sorted(needed - described.keys()):
    raise ValueError(f'{", ".join(missing)}: missing')
  wanted = typing.get_type_hints(kind)
  for name, value in described.items():
    if not _is_of(value, wanted[name]):
      raise ValueError(f'{name} is {value!r}, wanted {_words(wanted[name])}')
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
