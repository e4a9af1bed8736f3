"""Upgrade an embedding model without re-embedding its index.

What is public is named here, and imported when it is asked for: JAX alone takes
longer than a command's `--help` may. `advbct_jax/api.py` has most of it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from advbct_jax.adapters.adapter import Adapter, load_adapter, save_adapter
  from advbct_jax.adapters.fitting import fit_adapter
  from advbct_jax.adapters.mapping import adapt_store
  from advbct_jax.api import (
    Index,
    Matches,
    embed_images,
    evaluate,
    evaluate_matrix,
    evaluate_refresh,
    fill_store,
    load_encoder,
    make_store,
  )
  from advbct_jax.embeddings.extract import FrozenEncoder
  from advbct_jax.embeddings.store import EmbeddingStore, open_store
  from advbct_jax.errors import InputError

_MODULES = {
  'Adapter': 'adapters.adapter',
  'EmbeddingStore': 'embeddings.store',
  'FrozenEncoder': 'embeddings.extract',
  'Index': 'api',
  'InputError': 'errors',
  'Matches': 'api',
  'adapt_store': 'adapters.mapping',
  'embed_images': 'api',
  'evaluate': 'api',
  'evaluate_matrix': 'api',
  'evaluate_refresh': 'api',
  'fill_store': 'api',
  'fit_adapter': 'adapters.fitting',
  'load_adapter': 'adapters.adapter',
  'load_encoder': 'api',
  'make_store': 'api',
  'open_store': 'embeddings.store',
  'save_adapter': 'adapters.adapter',
}

__all__ = [
  'Adapter',
  'EmbeddingStore',
  'FrozenEncoder',
  'Index',
  'InputError',
  'Matches',
  'adapt_store',
  'embed_images',
  'evaluate',
  'evaluate_matrix',
  'evaluate_refresh',
  'fill_store',
  'fit_adapter',
  'load_adapter',
  'load_encoder',
  'make_store',
  'open_store',
  'save_adapter',
]


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)
  globals()[name] = value  # found at once from now on
  return value


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
