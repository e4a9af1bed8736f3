"""How the new encoder is tied to the old one, a method a file."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from advbct_jax.errors import InputError
from advbct_jax.methods.advbct import AdvBCT
from advbct_jax.methods.bct import BCT
from advbct_jax.methods.contrastive import Contrastive
from advbct_jax.methods.hot_refresh import HotRefresh
from advbct_jax.methods.independent import Independent
from advbct_jax.methods.l2 import L2
from advbct_jax.methods.lce import LCE
from advbct_jax.methods.unibct import UniBCT

# A method is a module with `classes`, `axis_name` and its own options as
# attributes, called as in `method.py`. One that can do without an old model, or
# uses its classifier, says so by `needs_old_model` or `uses_old_classifier`.
METHODS: dict[str, type[nn.Module]] = {
  'advbct': AdvBCT,
  'bct': BCT,
  'contrastive': Contrastive,
  'hot_refresh': HotRefresh,
  'independent': Independent,
  'l2': L2,
  'lce': LCE,
  'unibct': UniBCT,
}


def needs_old_model(name: str) -> bool:
  """Whether a method is trained against an old model.

  Raises:
    InputError: if there is no such method.
  """
  return getattr(_find(name), 'needs_old_model', True)


def uses_old_classifier(name: str) -> bool:
  """Whether a method asks for the classifier of the old model.

  Raises:
    InputError: if there is no such method.
  """
  return getattr(_find(name), 'uses_old_classifier', False)


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
