"""The first results are re-embedded and ranked by the new encoder."""

import dataclasses

from advbct_jax.errors import InputError
from advbct_jax.refresh.known_pairs import KnownPairs
from advbct_jax.refresh.policies.automatic import Auto, AutoNew
from advbct_jax.refresh.policy import OldPart, Policy


@dataclasses.dataclass(frozen=True)
class Cascade(Policy):
  """`auto`, whose first results are re-embedded where they aren't yet.

  They are then ranked by the new encoder, before all others. What was
  re-embedded stays, so that a thing costs one call, and the queries make an
  order of re-embedding.

  Attributes:
    budget: how many of the first results, which bounds the calls a query.
  """

  budget: int = 200

  needs_old = True
  label = 'cascade'

  def __post_init__(self) -> None:
    if self.budget < 1:
      raise InputError(
        f'refresh: a cascade with a budget of {self.budget} was asked for; '
        'wanted: at least 1 of the first results to re-embed for a query.'
      )

  @property
  def part_of(self) -> Policy:
    """What finds the first results."""
    return Auto()

  def fit(self, pairs: KnownPairs) -> OldPart:
    """Fits what finds the first results."""
    return self.part_of.fit(pairs)


@dataclasses.dataclass(frozen=True)
class CascadeNew(Cascade):
  """The same on `auto_new`, where the new encoder alone embeds a query."""

  needs_old = False
  label = 'cascade, new encoder alone'

  @property
  def part_of(self) -> Policy:
    """What finds the first results."""
    return AutoNew()
