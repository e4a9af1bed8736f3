"""Backbones by name."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn

from advbct_jax.errors import InputError
from advbct_jax.models import efficientnet_lite, features, resnet, vit
from advbct_jax.models.pooling import POOLINGS

# Whatever is named here is a backbone.
FAMILIES: tuple[Mapping[str, Callable[..., nn.Module]], ...] = (
  resnet.RESNETS,
  vit.VITS,
  efficientnet_lite.EFFICIENTNET_LITES,
  features.FEATURES,
)


def make_backbone(
  architecture: str,
  width: float = 1.0,
  stem: str = 'imagenet',
  pooling: str = 'auto',
  dtype: Any = None,
  axis_name: str | None = None,
) -> nn.Module:
  """Builds a backbone, a module that maps images to [B, E] features.

  Args:
    architecture: a key of `RESNETS`, `VITS`, `EFFICIENTNET_LITES` or
      `FEATURES`; the last maps stored features in the place of images.
    width: factor on its channel counts; of `features_mlp` the hidden width as a
      factor of E.
    stem: of a ResNet, `imagenet` or `small`; see `ResNet`.
    pooling: how a map of features becomes one vector; `cls` or `mean` for a
      ViT, `mean` or `gem` for others, the first of each for `auto`.
    dtype: what to compute in.
    axis_name: the mapped axis over which BatchNorm shares its statistics.

  Raises:
    InputError: if a name is unknown, or is of another family's backbones.
  """
  if architecture in vit.VITS:
    _require_known('stem', stem, ('imagenet',), architecture)
    pooling = _find_pooling(pooling, vit.POOLINGS, architecture)
    # Its LayerNorm sees one token at a time: no statistics to share.
    return vit.VITS[architecture](width=width, pooling=pooling, dtype=dtype)
  if architecture in features.FEATURES:
    _require_known('stem', stem, ('imagenet',), architecture)
    pooling = _find_pooling(pooling, features.POOLINGS, architecture)
    return features.FEATURES[architecture](
      width=width, pooling=pooling, dtype=dtype
    )
  _require_known('architecture', architecture, known_architectures())
  pooling = _find_pooling(pooling, POOLINGS, architecture)
  if architecture in efficientnet_lite.EFFICIENTNET_LITES:
    _require_known('stem', stem, ('imagenet',), architecture)
    return efficientnet_lite.EFFICIENTNET_LITES[architecture](
      width=width, pooling=pooling, dtype=dtype, axis_name=axis_name
    )
  _require_known('stem', stem, resnet.STEMS, architecture)
  return resnet.RESNETS[architecture](
    width=width,
    stem=stem,
    pooling=pooling,
    dtype=dtype,
    axis_name=axis_name,
  )


def takes_features(architecture: str) -> bool:
  """Whether a backbone takes [B, E] stored features in the place of images."""
  return architecture in features.FEATURES


def known_architectures() -> tuple[str, ...]:
  """The names of all backbones."""
  return tuple(name for family in FAMILIES for name in family)


def _find_pooling(
  pooling: str, known: tuple[str, ...], architecture: str
) -> str:
  if pooling == 'auto':
    return known[0]
  _require_known('pooling', pooling, known, architecture)
  return pooling


def _require_known(
  field: str, value: str, known: tuple[str, ...], owner: str = ''
) -> None:
  if value not in known:
    raise InputError(
      f'config.model.{field} is {value!r}; wanted: one of '
      f'{", ".join(known)}{owner and f" for {owner}"}.'
    )
