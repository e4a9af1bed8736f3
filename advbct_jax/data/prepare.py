"""`python -m advbct_jax.data.prepare` is the command `advbct prepare`."""

from advbct_jax.commands.prepare import main

if __name__ == '__main__':
  main()
