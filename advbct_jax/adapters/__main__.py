"""`python -m advbct_jax.adapters` is the command `advbct adapters`."""

from advbct_jax.commands.adapters import main

if __name__ == '__main__':
  main()
