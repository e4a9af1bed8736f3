"""`python -m advbct_jax.embed` is the command `advbct embed`."""

from advbct_jax.commands.embed import main

if __name__ == '__main__':
  main()
