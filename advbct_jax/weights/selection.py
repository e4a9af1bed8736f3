"""Which tensors of a checkpoint are those of its encoder.

A checkpoint is seen as one flat set of names: an entry of a dict is followed by
a slash, a module by a dot, as in `teacher/module.backbone.conv1.weight`.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import fnmatch
import re

import numpy as np

from advbct_jax.errors import InputError
from advbct_jax.weights.layouts import TIMM, Layout, count_groups, find_layout

Tensors = Mapping[str, np.ndarray]

# Every backbone that is known here has one of these, and little else does.
_OF_BACKBONE = re.compile(
  r'(^|[./])(layer1\.0\.conv1|patch_embed\.proj|_?conv_stem)\.weight$'
)
# What is taken where several models are in one file: the entries under which
# trainers keep the model that is trained, and OpenCompatible's new model.
_TAKEN_FIRST = ('state_dict/', 'model_state_dict/', 'model/', 'new_model.')


@dataclasses.dataclass(frozen=True)
class Selection:
  """The tensors of an encoder, and what was left out.

  Attributes:
    tensors: by name, without the wrappers that all names have. A name with a
      slash is of an entry of the checkpoint beside that of the encoder.
    layout: whose names they are.
    left_out: names of tensors, by the reason.
  """

  tensors: dict[str, np.ndarray]
  layout: Layout
  left_out: dict[str, list[str]]


def select_encoder(
  tensors: Tensors,
  source: str,
  under: Sequence[str] = (),
  ignored: Sequence[str] = (),
) -> Selection:
  """Finds an encoder's tensors in a checkpoint.

  What stands in front of all names (`module.`, `state_dict/`) is taken off.
  Where only one of several modules or entries holds a backbone, the encoder is
  there, and the others stay as what may stand on it.

  Args:
    tensors: by name, as `read_tensors` gives them.
    source: what the weights are called in errors.
    under: names of entries, or beginnings of tensors' names, each below the one
      before it: nothing else is taken.
    ignored: patterns of names, or names of modules, that are left out.

  Returns:
    The tensors, whose names they are, and what was left out.

  Raises:
    InputError: if there is nothing under a name, or nothing to ignore, or
      several entries or modules may be the encoder.
  """
  left_out: dict[str, list[str]] = collections.defaultdict(list)
  unused = set(ignored)
  # A name may be given as it stands in the file, or without its wrappers.
  found, left_out['as told'] = _ignore(tensors, ignored, unused)
  for name in under:
    found, left_out[f'not under {name}'] = _take(found, name, source)
    found, told = _ignore(found, ignored, unused)
    left_out['as told'] += told
  prefix = (
    ''  # of the module that holds the backbone, where others stand beside
  )
  while True:
    inside = [name for name in found if name.startswith(prefix)]
    group = _find_group([name[len(prefix) :] for name in inside], source)
    if not group:
      break
    here = prefix + group
    for name, reason in _strangers(found, here).items():
      left_out[reason].append(name)
      del found[name]
    # Where others stand beside it, the prefix stays, lest two names become one.
    if all(name.startswith(here) or '/' in name for name in found):
      found = {name.removeprefix(here): found[name] for name in found}
      prefix = ''
      found, told = _ignore(found, ignored, unused)
      left_out['as told'] += told
    else:
      prefix = here
  if unused:
    raise InputError(
      f'{source}: --ignore={",".join(sorted(unused))} is no name in it; it has '
      f'{_outline(tensors)}. Mend the name, or leave it out.'
    )
  names = [name[len(prefix) :] for name in found if name.startswith(prefix)]
  return Selection(
    found,
    find_layout(names).under(prefix),
    {reason: names for reason, names in left_out.items() if names},
  )


def _find_group(names: Sequence[str], source: str) -> str:
  """The one entry or module that holds the backbone; empty at its own level."""
  # Layouts with modules beside the backbone name these at its own level, too.
  if any(_OF_BACKBONE.match(name) for name in names) or (
    find_layout(names).name != TIMM.name
  ):
    return ''
  holding = dict.fromkeys(
    re.split(r'(?<=[./])', name, maxsplit=1)[0]
    for name in names
    if _OF_BACKBONE.search(name)
  )
  if len(holding) < 2:
    return next(iter(holding), '')
  for group in _TAKEN_FIRST:
    if group in holding:
      return group
  counted = [
    f'{group[:-1]} ({sum(name.startswith(group) for name in names)})'
    for group in holding
  ]
  flags = ' or '.join(f'--key={group[:-1]}' for group in holding)
  raise InputError(
    f'{source}: it holds several models: {", ".join(counted)} tensors. Say '
    f'which one: from-pytorch {flags}.'
  )


def _strangers(names: Iterable[str], here: str) -> dict[str, str]:
  """What cannot stand on the encoder that is `here`, and the reason of each."""
  others = [name for name in names if not name.startswith(here)]
  if here.endswith('new_model.'):
    return dict.fromkeys(others, 'of the old model')
  if not here.endswith('/'):
    return {}
  entries = {name: name.partition('/')[0] for name in others if '/' in name}
  models = {entries[name] for name in entries if _OF_BACKBONE.search(name)}
  # What is in no entry may be a state of the random numbers, say.
  return {
    name: 'of other models' if name in entries else 'in no entry'
    for name in others
    if entries.get(name) in models or name not in entries
  }


def _take(
  tensors: Tensors, wanted: str, source: str
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Takes what lies under a name, wherever in a checkpoint that is.

  Returns:
    Tensors by the rest of their names, and the names of all others.
  """
  steps = re.split(r'[./]', wanted.strip('./'))
  below = re.compile(
    r'(.*?(?:^|[./]))' + r'[./]'.join(map(re.escape, steps)) + r'[./](.+)'
  )
  matches = {
    name: match for name in tensors if (match := below.fullmatch(name))
  }
  places = dict.fromkeys(match[1] for match in matches.values())
  if not places:
    raise InputError(
      f'{source}: nothing in it lies under {wanted}; it has '
      f'{_outline(tensors)}. Mend --key or --prefix.'
    )
  if '' not in places and len(places) > 1:
    flags = ' or '.join(
      f'--key={place[:-1].replace("/", ".")}' for place in places
    )
    raise InputError(
      f'{source}: {wanted} is in it several times. Say in which place, before '
      f'--prefix={wanted}: {flags}.'
    )
  place = '' if '' in places else next(iter(places))
  taken = {
    match[2]: tensors[name]
    for name, match in matches.items()
    if match[1] == place
  }
  others = [
    name.removeprefix(place)
    for name in tensors
    if name not in matches or matches[name][1] != place
  ]
  return taken, others


def _outline(names: Iterable[str]) -> str:
  """Counts the modules inside of whatever stands in front of all names."""
  steps = [re.split(r'[./]', name) for name in names]
  while len({step[0] for step in steps}) == 1 and min(map(len, steps)) > 1:
    steps = [step[1:] for step in steps]
  return count_groups(step[0] for step in steps)


def _ignore(
  tensors: Tensors, patterns: Sequence[str], unused: set[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Leaves out what a pattern, or the name of a module, says.

  Returns:
    The other tensors, and the names of those left out; patterns that say any
    are taken out of `unused`.
  """
  kept, left_out = {}, []
  for name, tensor in tensors.items():
    dotted = name.replace('/', '.')
    hits = [
      pattern
      for pattern in patterns
      if fnmatch.fnmatchcase(dotted, pattern)
      or fnmatch.fnmatchcase(dotted, f'{pattern}.*')
    ]
    unused.difference_update(hits)
    if hits:
      left_out.append(name)
    else:
      kept[name] = tensor
  return kept, left_out
