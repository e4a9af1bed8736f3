"""How methods, starts and adapters are written and drawn.

A method's class and an adapter's kind say it. Any other name is a variant that
a config has named: it is written as it is named, in one colour for all of them.
"""

from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.comparison.grid import ADAPTER_POLICY
from advbct_jax.comparison.starts import FRESH, read_start
from advbct_jax.methods import METHODS
from advbct_jax.refresh.policies import find_policy, label_policy

# What the others are held against, and not one of them: it cannot serve an old
# gallery, and its self-test is the price that they are measured by.
REFERENCE = ('independent', 'fresh')

_MARKERS = {
  'fresh': 'o',
  'old': 's',
  'aligned': '^',
  'identity': '8',
  'rotation': 'H',
}
_OTHER_MARKER = 'v'
# Of Tol's palette, far from those of the methods.
_OTHER_COLOR = '#882255'


def method_label(method: str) -> str:
  """How a method, or a variant of one, is written."""
  return getattr(METHODS.get(method), 'label', _spell(method))


def method_color(method: str) -> str:
  """In which colour a method, or a variant of one, is drawn: #RRGGBB."""
  return getattr(METHODS.get(method), 'color', _OTHER_COLOR)


def start_label(start: str) -> str:
  """How a start, or the adapter in its place or upon it, is written.

  >>> start_label('ridge:forward'), start_label('old+ridge')
  ('ridge forward', 'old, ridge')
  """
  place = read_start(start)
  if not place.adapter:
    return _spell(start)
  kind = ADAPTERS[place.adapter]
  # The usual direction goes without saying.
  turned = '' if place.direction == kind.directions[0] else place.direction
  adapter = f'{kind.label} {turned}'.strip()
  return f'{_spell(place.training)}, {adapter}' if '+' in start else adapter


def start_marker(start: str) -> str:
  """With which of Matplotlib's markers a start or an adapter is drawn."""
  if adapter := read_start(start).adapter:
    return ADAPTERS[adapter].marker
  return _MARKERS.get(start, _OTHER_MARKER)


def row_label(method: str, start: str) -> str:
  """How a method from one start is written in a sentence or beside a point.

  >>> row_label('bct', 'fresh'), row_label('independent', 'ridge')
  ('BCT', 'ridge')
  >>> row_label('no_norm', 'aligned'), row_label('bct', 'fresh+ridge')
  ('no norm (aligned)', 'BCT (fresh, ridge)')
  """
  # The rule, which goes without saying.
  if start == FRESH:
    return method_label(method)
  # An adapter in a start's place: its method is `independent` always.
  if '+' not in start and read_start(start).adapter:
    return start_label(start)
  return f'{method_label(method)} ({start_label(start)})'


def policy_label(policy: str) -> str:
  """How a refresh policy is written.

  >>> policy_label('cascade:50'), policy_label('adapter')
  ('cascade, 50', 'adapter')
  """
  if policy == ADAPTER_POLICY:
    return policy
  return label_policy(find_policy(policy))


def _spell(name: str) -> str:
  return name.replace('_', ' ')
