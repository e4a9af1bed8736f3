"""AdvBCT improved: a boundary round each old embedding, and a margin.

A variant of this package, not of the paper, made of what its parts were seen to
do (docs/comparison.md): the boundary ties the encoders; the adversary costs
self-test and ties nothing; a mean over all eligible samples leaves more of the
self-test than one over violators. So this is AdvBCT without the adversary and
with the mean over eligible samples. What is new: the sphere of an image lies
round its own old embedding rather than the centre of its class, as large as the
old class's largest radius and no more, and the classification has an ArcFace
margin, which brings self-test. The settings were chosen on the Public queries
of one seed of handwritten characters.

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
  section: ClassVar[str] = 'advbct_improved'

  radius: str = 'largest'
  boundary_mean: str = 'eligible'
  boundary_center: str = 'image'
  boundary_weight: float = 3.0
  adversarial_weight: float = 0.0
  margin_scale: float = 16.0
  margin_size: float = 0.1
