"""`advbct evaluate`, for a checkout of the repository."""

from advbct_jax.commands.evaluate import main

if __name__ == '__main__':
  main()
