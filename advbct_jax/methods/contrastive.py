"""Contrast with old embeddings alone: Hot-refresh without new negatives."""

from advbct_jax.methods.hot_refresh import HotRefresh


class Contrastive(HotRefresh):
  """Hot-refresh's loss over old negatives alone, the simplest contrast.

  Attributes: those of `HotRefresh`.
  """

  new_negatives: bool = False
