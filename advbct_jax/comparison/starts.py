"""What a cell's encoder was trained from, and what was fitted to it afterwards.

The third part of a cell's name says both: `old` is a start, `ridge` an adapter
on the independent encoder, `old+ridge` an adapter on an encoder that was
trained from the start `old`. An adapter goes in its kind's usual direction, or
in that after a colon: `ridge:forward`.
"""

import dataclasses

from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.errors import InputError

FRESH = 'fresh'


@dataclasses.dataclass(frozen=True)
class Start:
  """What the name says.

  Attributes:
    training: the start of the training.
    adapter: the kind of adapter, '' for none.
    direction: in which the adapter goes, '' where there is none.
  """

  training: str
  adapter: str = ''
  direction: str = ''


def read_start(name: str) -> Start:
  """Takes a name apart.

  Args:
    name: such as `old`, `ridge` or `old+ridge:forward`.

  Raises:
    InputError: if an adapter is no kind, or goes in no such direction.

  >>> read_start('old+fastfill')
  Start(training='old', adapter='fastfill', direction='forward')
  """
  training, joined, adapter = name.partition('+')
  if not joined:
    if name.partition(':')[0] not in ADAPTERS:
      return Start(name)
    training, adapter = FRESH, name
  kind, _, direction = adapter.partition(':')
  if kind not in ADAPTERS:
    raise InputError(
      f'{name!r} names the adapter {kind!r}; wanted: one of '
      f'{", ".join(ADAPTERS)}.'
    )
  directions = ADAPTERS[kind].directions
  if adapter != kind and direction not in directions:
    raise InputError(
      f'{name!r}: the adapter {kind} has no direction {direction!r}; wanted: '
      f'{" or ".join(directions)}.'
    )
  return Start(training, kind, direction or directions[0])
