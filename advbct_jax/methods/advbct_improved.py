"""AdvBCT improved: the elastic boundary alone, on a classification with margin.

A variant of this package, not of the paper. What AdvBCT's parts do was measured
one by one (docs/comparison.md): the boundary ties the encoders; the adversary
costs self-test and ties nothing; a mean over all eligible samples leaves more
of the self-test than one over violators. So this is AdvBCT without the
adversary, with the mean over eligible samples, and with an ArcFace margin,
which makes the classes compact that the boundary holds.

It is meant for a start from the old encoder's weights, where there are any:
`--config.model.init_weights=old`.
"""

from typing import ClassVar

from advbct_jax.methods.advbct import AdvBCT


class ImprovedAdvBCT(AdvBCT):
  """AdvBCT by other defaults.

  Attributes: those of `AdvBCT`.
  """

  label: ClassVar[str] = 'AdvBCT improved'
  color: ClassVar[str] = '#A8462C'

  boundary_mean: str = 'eligible'
  adversarial_weight: float = 0.0
  margin_scale: float = 16.0
  margin_size: float = 0.1
