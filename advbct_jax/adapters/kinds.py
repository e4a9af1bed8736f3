"""The kinds of adapters, one a file."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import numpy as np

from advbct_jax.adapters import procrustes, residual_mlp, ridge
from advbct_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Kind:
  """How one kind of adapter is fitted and used.

  Attributes:
    fit: from pairs, a seed and the options to the parameters.
    apply: from the parameters and [N, D] unit vectors to mapped vectors.
    one_space: whether mapped vectors are as like each other as they were
      before, so that their own gallery may be searched with them as well.
    options: what `fit` can be told, and what it is told by default.
    label: how tables and plots write it.
    marker: with which of Matplotlib's markers plots draw it.
  """

  fit: Callable[..., dict[str, np.ndarray]]
  apply: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
  one_space: bool
  options: Mapping[str, Any]
  label: str
  marker: str


ADAPTERS = {
  'procrustes': Kind(
    procrustes.fit,
    procrustes.apply,
    one_space=True,
    options={},
    label='Procrustes',
    marker='D',
  ),
  'ridge': Kind(
    ridge.fit,
    ridge.apply,
    one_space=False,
    options={'penalty': None},
    label='ridge',
    marker='P',
  ),
  'residual_mlp': Kind(
    residual_mlp.fit,
    residual_mlp.apply,
    one_space=False,
    options={
      'penalty': None,
      'hidden': 0,
      'steps': 500,
      'batch_size': 512,
      'learning_rate': 1e-3,
    },
    label='residual MLP',
    marker='X',
  ),
}


def find_kind(name: str) -> Kind:
  """Looks a kind up.

  Args:
    name: a key of `ADAPTERS`.

  Raises:
    InputError: if there is no such kind.
  """
  if name not in ADAPTERS:
    raise InputError(
      f'adapter: {name!r} was asked for; wanted: one of {", ".join(ADAPTERS)}.'
    )
  return ADAPTERS[name]
