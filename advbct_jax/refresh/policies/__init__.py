"""Refresh policies by name. A new one is a class and an entry here."""

from collections.abc import Iterable

from advbct_jax.errors import InputError
from advbct_jax.refresh.policies.automatic import Auto, AutoNew
from advbct_jax.refresh.policies.cascade import Cascade
from advbct_jax.refresh.policies.one_space import Old, RankMerge, Trained
from advbct_jax.refresh.policies.predicted import Predict, PredictInterpolate
from advbct_jax.refresh.policies.rotated import (
  Bridge,
  Fixed,
  Interpolate,
  Refit,
)
from advbct_jax.refresh.policy import Policy

POLICIES: dict[str, type[Policy]] = {
  'old': Old,
  'rank_merge': RankMerge,
  'fixed': Fixed,
  'refit': Refit,
  'interpolate': Interpolate,
  'bridge': Bridge,
  'predict': Predict,
  'predict_interpolate': PredictInterpolate,
  'trained': Trained,
  'auto': Auto,
  'auto_new': AutoNew,
  'cascade': Cascade,
}


def find_policy(name: str) -> Policy:
  """A policy with its defaults, by name.

  Args:
    name: a key of `POLICIES`, or `cascade:N` for a cascade with a budget of N.

  Raises:
    InputError: if there is none of the name.
  """
  kind, _, budget = name.partition(':')
  if kind == 'cascade' and budget:
    if not budget.isdecimal() or int(budget) < 1:
      raise InputError(
        f'refresh: the policy {name!r} was asked for; wanted: cascade:N, where '
        'N of the first results may be re-embedded for a query.'
      )
    return Cascade(budget=int(budget))
  if name not in POLICIES:
    raise InputError(
      f'refresh: the policy {name!r} was asked for; wanted: one of '
      f'{", ".join(POLICIES)}.'
    )
  return POLICIES[name]()


def find_policies(names: Iterable[str]) -> dict[str, Policy]:
  """Policies with their defaults, by the names that `find_policy` takes."""
  return {name: find_policy(name) for name in names}


def label_policy(policy: Policy) -> str:
  """How tables and plots write a policy, with its budget if it has one."""
  return f'{policy.label}, {policy.budget}' if policy.budget else policy.label
