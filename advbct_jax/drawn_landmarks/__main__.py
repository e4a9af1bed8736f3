"""`python -m advbct_jax.drawn_landmarks` is `advbct prepare landmarks`."""

import sys

from advbct_jax.commands.prepare import main

if __name__ == '__main__':
  main(['landmarks', *sys.argv[1:]])
