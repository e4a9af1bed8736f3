"""The matrix products and convolutions of a computation, and their precision.

A CPU multiplies float32 in full whatever it is asked for, so that no number
shows on it what a GPU or TPU would do. What was asked for does.
"""

import jax
from jax.extend import core


def products(function, *arguments):
  """All products that calling a function would compute.

  Returns:
    Of each its primitive's name, the dtype of its first operand, and whether
    the highest precision was asked for.
  """
  return list(_products_in(jax.make_jaxpr(function)(*arguments).jaxpr))


def _products_in(jaxpr):
  for equation in jaxpr.eqns:
    if equation.primitive.name in ('dot_general', 'conv_general_dilated'):
      asked = equation.params['precision']
      asked = asked if isinstance(asked, tuple) else (asked, asked)
      yield (
        equation.primitive.name,
        equation.invars[0].aval.dtype.name,
        asked == (jax.lax.Precision.HIGHEST,) * 2,
      )
    for part in jax.tree.leaves(
      tuple(equation.params.values()),
      is_leaf=lambda x: isinstance(x, core.Jaxpr | core.ClosedJaxpr),
    ):
      if isinstance(part, core.ClosedJaxpr):
        part = part.jaxpr
      if isinstance(part, core.Jaxpr):
        yield from _products_in(part)
