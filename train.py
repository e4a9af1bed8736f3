"""`advbct train`, for a checkout of the repository."""

from advbct_jax.commands.train import main

if __name__ == '__main__':
  main()
