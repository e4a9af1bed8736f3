"""A chain of heads so small that a test can train it."""

import pathlib

import ml_collections

from tests.tiny_vectors import tiny_head_config


def tiny_chain(root: pathlib.Path, *shares: float) -> ml_collections.ConfigDict:
  """The vectors of the old encoder, and a head on each share of the classes."""
  config = ml_collections.ConfigDict()
  config.base = tiny_head_config(root)
  config.base.epochs = config.base.old.epochs = 1
  config.steps = tuple(
    {'data': {'split': {'new_fraction': share}}} for share in shares
  )
  return config
