"""Refresh policies by name. A new one is a class and an entry here."""

from collections.abc import Iterable
import inspect

from advbct_jax.errors import InputError
from advbct_jax.refresh.policies.automatic import (
  Auto,
  AutoNew,
  InterpolateAdaptive,
)
from advbct_jax.refresh.policies.cascade import Cascade, CascadeNew
from advbct_jax.refresh.policies.one_space import Old, RankMerge, Trained
from advbct_jax.refresh.policies.predicted import Predict, PredictInterpolate
from advbct_jax.refresh.policies.rotated import (
  Bridge,
  Fixed,
  Interpolate,
  InterpolateBy,
  Refit,
)
from advbct_jax.refresh.policy import Policy

POLICIES: dict[str, type[Policy]] = {
  'old': Old,
  'rank_merge': RankMerge,
  'fixed': Fixed,
  'refit': Refit,
  'interpolate': Interpolate,
  'interpolate_by': InterpolateBy,
  'interpolate_adaptive': InterpolateAdaptive,
  'bridge': Bridge,
  'predict': Predict,
  'predict_interpolate': PredictInterpolate,
  'trained': Trained,
  'auto': Auto,
  'auto_new': AutoNew,
  'cascade': Cascade,
  'cascade_new': CascadeNew,
}


def find_policy(name: str) -> Policy:
  """A policy by name.

  Args:
    name: a key of `POLICIES`, and after it values of the policy's options in
      their order where they aren't to be the defaults: `cascade:50`,
      `predict_interpolate:0.1:0.35`.

  Raises:
    InputError: if there is none of the name, or a value that is none.
  """
  kind, *values = name.split(':')
  if kind not in POLICIES:
    raise InputError(
      f'refresh: the policy {name!r} was asked for; wanted: one of '
      f'{", ".join(POLICIES)}.'
    )
  options = inspect.signature(POLICIES[kind]).parameters.values()
  try:
    # Each default has the type that is wanted.
    given = {
      option.name: type(option.default)(value)
      for option, value in zip(options, values, strict=False)
    }
  except ValueError:
    given = {}
  if len(given) != len(values):
    wanted = ''.join(f':{option.name.upper()}' for option in options)
    raise InputError(
      f'refresh: the policy {name!r} was asked for; wanted: {kind}{wanted}, '
      f'where {"numbers follow" if options else "nothing follows"} the name.'
    )
  return POLICIES[kind](**given)


def find_policies(names: Iterable[str]) -> dict[str, Policy]:
  """Policies by the names that `find_policy` takes."""
  return {name: find_policy(name) for name in names}


def label_policy(policy: Policy) -> str:
  """How tables and plots write a policy, with its budget and what is set."""
  settings = [
    str(value)
    for option in inspect.signature(type(policy)).parameters.values()
    if isinstance(value := getattr(policy, option.name), int | float)
    and (option.name == 'budget' or value != option.default)
  ]
  return ', '.join([policy.label, *settings])
