"""How the new encoder is tied to the old one, a method a file."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from advbct_jax.errors import InputError
from advbct_jax.methods.advbct import AdvBCT
from advbct_jax.methods.independent import Independent

METHODS: dict[str, type[nn.Module]] = {
  'advbct': AdvBCT,
  'independent': Independent,
}


def needs_old_model(name: str) -> bool:
  """Whether a method is trained against an old model.

  Raises:
    InputError: if there is no such method.
  """
  return _find(name) is not Independent


def make_method(
  name: str, classes: int, options: Mapping[str, Any], axis_name: str | None
) -> nn.Module:
  """Builds a method's loss.

  Args:
    name: a key of `METHODS`.
    classes: the number C of new classes.
    options: the method's own attributes.
    axis_name: the mapped axis, None outside of any.

  Raises:
    InputError: if there is no such method.
  """
  return _find(name)(classes=classes, axis_name=axis_name, **options)


def _find(name: str) -> type[nn.Module]:
  if name not in METHODS:
    raise InputError(
      f'config.method is {name!r}; wanted: one of {", ".join(METHODS)}.'
    )
  return METHODS[name]
