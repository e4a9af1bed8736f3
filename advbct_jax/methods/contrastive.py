"""Contrast with old embeddings alone: Hot-refresh without new negatives.

The loss of a sample is −log(e^(f̂·ô/τ) / (e^(f̂·ô/τ) + Σ e^(f̂·ô⁻/τ))), with ô of
the same image and the nearest ô⁻ of other classes: InfoNCE against old
embeddings (van den Oord et al., "Representation learning with contrastive
predictive coding", 2018, arXiv 1807.03748).
"""

from typing import ClassVar

from advbct_jax.methods.hot_refresh import HotRefresh


class Contrastive(HotRefresh):
  """Hot-refresh's loss over old negatives alone, the simplest contrast.

  Attributes: those of `HotRefresh`.
  """

  label: ClassVar[str] = 'Contrastive'
  color: ClassVar[str] = '#999933'

  new_negatives: bool = False
