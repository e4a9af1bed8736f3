"""`python -m advbct_jax.convert` is the command `advbct convert`."""

from advbct_jax.commands.convert import main

if __name__ == '__main__':
  main()
