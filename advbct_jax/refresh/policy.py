"""A refresh policy: how a gallery is searched while part of it is re-embedded.

The things that are re-embedded, the new part, are searched with new queries. A
policy says what the others, the old part, are searched with. It is fitted to
what both encoders have said so far, and fitted again as that grows.
"""

import abc
import dataclasses
from typing import ClassVar

import numpy as np

from advbct_jax.refresh.known_pairs import KnownPairs


@dataclasses.dataclass(frozen=True)
class Queries:
  """What the encoders say about Q queries.

  Attributes:
    new: [Q, D] unit vectors.
    old: [Q, D_old] unit vectors; None where the old encoder doesn't run.
  """

  new: np.ndarray
  old: np.ndarray | None = None

  def take(self, rows: np.ndarray) -> 'Queries':
    """Some of the queries."""
    return Queries(self.new[rows], None if self.old is None else self.old[rows])

  def needed_old(self) -> np.ndarray:
    """[Q, D_old] the old unit vectors, which must be there."""
    assert self.old is not None, 'the policy needs the old encoder'
    return self.old


@dataclasses.dataclass(frozen=True)
class Neighbours:
  """The re-embedded things that are nearest to each query.

  Attributes:
    scores: [Q, k] cosines of new vectors, descending.
    old: [Q, k, D_old] the old unit vectors of these things.
  """

  scores: np.ndarray
  old: np.ndarray


class OldPart(abc.ABC):
  """How the old part is searched: by inner products of rows and queries.

  Attributes:
    neighbours: how many re-embedded neighbours the queries are made with.
    scale: how its scores stand beside the new part's: `known`, brought to one
      scale by what both say of known pairs; `raw`, as they are; or `rank`, by
      the place in either part.
    new_width: how many components of new vectors are compared in the new part;
      None for all.
  """

  neighbours: int = 0
  scale: str = 'known'
  new_width: int | None = None

  def rows(self, old: np.ndarray) -> np.ndarray:
    """What old unit vectors [N, D_old] are in the index of the old part.

    Returns:
      [N, W]. It is the vectors themselves unless a policy says otherwise, so
      that an index which is there already serves.
    """
    return old

  @abc.abstractmethod
  def queries(
    self, queries: Queries, neighbours: Neighbours | None
  ) -> np.ndarray:
    """What is searched for in the old part.

    Args:
      queries: Q of them.
      neighbours: of each; None where none was asked for, or nothing is
        re-embedded yet.

    Returns:
      [Q, W], whose inner products with rows are the scores.
    """


class Policy(abc.ABC):
  """One way to search a gallery while it is refreshed.

  Attributes:
    needs_old: whether the old encoder must embed queries.
    label: how tables and plots write it.
    budget: how many of the first results may be re-embedded for a query.
  """

  needs_old: ClassVar[bool] = False
  label: ClassVar[str]
  budget: int = 0

  @property
  def part_of(self) -> 'Policy':
    """The policy whose old part this one searches: it is fitted once."""
    return self

  @abc.abstractmethod
  def fit(self, pairs: KnownPairs) -> OldPart:
    """Fits what the old part is searched with.

    Args:
      pairs: what both encoders have said so far.

    Raises:
      InputError: if they are too few.
    """
