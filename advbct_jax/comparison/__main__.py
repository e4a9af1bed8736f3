"""`python -m advbct_jax.comparison` is the command `advbct tables`."""

from advbct_jax.commands.tables import main

if __name__ == '__main__':
  main()
