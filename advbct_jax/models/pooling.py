"""From a map of features to one vector of them."""

import jax
import jax.numpy as jnp

POOLINGS = ('mean', 'gem')


def pool(x: jax.Array, kind: str) -> jax.Array:
  """Pools features over all places.

  Args:
    x: [B, H, W, E] features, none of them below 0.
    kind: `mean`, or `gem`, the generalised mean with exponent 3 (Radenović et
      al., "Fine-tuning CNN image retrieval with no human annotation", 2018).

  Returns:
    [B, E] pooled features; of `gem` in float32.
  """
  if kind == 'gem':
    # A cube has too few digits in bfloat16. The bound keeps the root's slope,
    # which is infinite at 0, out of the gradient.
    x = jnp.maximum(x.astype(jnp.float32), 1e-6)
    return jnp.cbrt((x**3).mean(axis=(1, 2)))
  return x.mean(axis=(1, 2))
