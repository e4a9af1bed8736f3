"""The command `advbct`: a module for each of its commands.

Each has `main`, which takes what follows the command's name, and `parse`, which
only reads that. Nobody waits for JAX or FAISS to see a `--help`: what is slow
to import is imported where a command begins its work, after its line is read.
"""

from collections.abc import Sequence
import importlib
import importlib.metadata
import sys

from advbct_jax import processes
from advbct_jax.command_line import exit_with_message

COMMANDS = {
  'train': 'train an encoder that stays compatible with an old one; judge it',
  'evaluate': 'judge encoders: old, self, cross, the refresh curve',
  'compare': 'train and judge a grid of upgrades and methods',
  'chain': 'train upgrades one after the other; judge each on each gallery',
  'tables': 'write the tables and plots of comparisons anew',
  'embed': 'embed images with a trained encoder, into stores of its run',
  'convert': 'weights and vectors come in and go out: PyTorch, FAISS, files',
  'adapters': "fit and apply maps of new vectors into the old encoder's space",
  'refresh': 'what to expect while a gallery is re-embedded',
  'prepare': 'prepare data: your own images, records, the drawn landmarks',
}

# Those that several processes share.
_SHARED = ('train', 'evaluate', 'embed')


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs `advbct`.

  Args:
    arguments: what follows the program's name; None takes `sys.argv`.
  """
  line = sys.argv[1:] if arguments is None else arguments
  name, *rest = line or ['--help']
  if name in ('-h', '--help', 'help'):
    print(_describe())
  elif name == '--version':
    print(importlib.metadata.version('advbct_jax'))
  elif name in COMMANDS:
    if name not in _SHARED:
      _require_one_process(name)
    importlib.import_module(f'{__name__}.{name}').main(rest)
  else:
    print(
      f'error: advbct has no command {name!r}; wanted: one of '
      f'{", ".join(COMMANDS)}.\nSee advbct --help.',
      file=sys.stderr,
    )
    sys.exit(2)


def _require_one_process(name: str) -> None:
  with exit_with_message():
    processes.require_one(f'advbct {name}')


def _describe() -> str:
  width = max(map(len, COMMANDS))
  lines = (f'  {name:{width}}  {text}' for name, text in COMMANDS.items())
  return '\n'.join(
    [
      'usage: advbct COMMAND …',
      '',
      'Backward-compatible training for image retrieval.',
      '',
      *lines,
      '',
      'advbct COMMAND --help says what a command takes.',
    ]
  )
