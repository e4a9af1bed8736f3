"""`advbct compare`, for a checkout of the repository."""

from advbct_jax.commands.compare import main

if __name__ == '__main__':
  main()
