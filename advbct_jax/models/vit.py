"""Vision transformers, layer for layer timm's."""

from collections.abc import Callable

from flax import linen as nn

POOLINGS = ('cls', 'mean')

VITS: dict[str, Callable[..., nn.Module]] = {}
