"""`python -m advbct_jax` is the command `advbct`."""

from advbct_jax.commands import main

if __name__ == '__main__':
  main()
