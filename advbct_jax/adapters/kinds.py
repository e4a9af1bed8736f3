"""The kinds of adapters, one a file."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import numpy as np

from advbct_jax.adapters import (
  diagonal_procrustes,
  drift,
  fastfill,
  fct,
  lambda_orthogonal,
  low_rank_affine,
  procrustes,
  residual_mlp,
  ridge,
  whitened_procrustes,
)
from advbct_jax.adapters.pairs import BACKWARD, FORWARD
from advbct_jax.errors import InputError

# It changes nothing among the vectors that it maps, so that it cannot do worse
# on things unlike those it was fitted to than the encoder itself.
DEFAULT_KIND = 'procrustes'


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
    directions: in which it can be fitted, the usual one first.
    extras: options that cards speak of only where they were given.
    equal_widths: whether it maps between spaces of one width alone.
    takes_side: whether vectors may be followed by a third encoder's, forward.
    predict_uncertainty: from the parameters and [N, D] unit vectors to how far
      off each mapped one is expected to be, [N]; None for kinds that can't say.
  """

  fit: Callable[..., dict[str, np.ndarray]]
  apply: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
  one_space: bool
  options: Mapping[str, Any]
  label: str
  marker: str
  directions: tuple[str, ...] = (BACKWARD, FORWARD)
  extras: tuple[str, ...] = ()
  equal_widths: bool = False
  takes_side: bool = False
  predict_uncertainty: (
    Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray] | None
  ) = None


ADAPTERS = {
  'procrustes': Kind(
    procrustes.fit,
    procrustes.apply,
    one_space=True,
    options={},
    label='Procrustes',
    marker='D',
    extras=('shrinkage', 'prior'),
  ),
  'ridge': Kind(
    ridge.fit,
    ridge.apply,
    one_space=False,
    options={'penalty': None},
    label='ridge',
    marker='P',
    takes_side=True,
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
  'drift': Kind(
    drift.fit,
    drift.apply,
    one_space=False,
    options={},
    label='drift',
    marker='<',
    equal_widths=True,
  ),
  'diagonal_procrustes': Kind(
    diagonal_procrustes.fit,
    diagonal_procrustes.apply,
    one_space=False,
    options={},
    label='scaled Procrustes',
    marker='d',
  ),
  'whitened_procrustes': Kind(
    whitened_procrustes.fit,
    ridge.apply,
    one_space=False,
    options={'shrinkage': None},
    label='whitened Procrustes',
    marker='h',
  ),
  'low_rank_affine': Kind(
    low_rank_affine.fit,
    low_rank_affine.apply,
    one_space=False,
    options={'rank': 64, 'penalty': None},
    label='low-rank affine',
    marker='>',
  ),
  'lambda_orthogonal': Kind(
    lambda_orthogonal.fit,
    ridge.apply,
    one_space=False,
    options={
      'threshold': 12.0,
      'sharpness': 1.0,
      'steps': 200,
      'learning_rate': 1e-3,
    },
    label='λ-orthogonal',
    marker='p',
  ),
  'fastfill': Kind(
    fastfill.fit,
    fastfill.apply,
    one_space=False,
    options={
      'penalty': None,
      'hidden': 512,
      'steps': 300,
      'batch_size': 256,
      'learning_rate': 5e-4,
    },
    label='FastFill',
    marker='*',
    directions=(FORWARD,),
    predict_uncertainty=fastfill.predict_uncertainty,
  ),
  'fct': Kind(
    fct.fit,
    fct.apply,
    one_space=False,
    options={
      'hidden': 2048,
      'epochs': 80,
      'batch_size': 1024,
      'learning_rate': 5e-4,
    },
    label='FCT',
    marker='$F$',
    directions=(FORWARD,),
    takes_side=True,
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


def check_widths(
  name: str, new_width: int, old_width: int, direction: str
) -> None:
  """Refuses widths that a kind cannot bring together.

  Args:
    name: a key of `ADAPTERS`.
    new_width: of the new encoder's vectors.
    old_width: of the old encoder's.
    direction: `backward` or `forward`.

  Raises:
    InputError: saying which kinds can.
  """
  if find_kind(name).equal_widths:
    drift.check_widths(new_width, old_width)
  if find_kind(name).one_space:
    procrustes.check_widths(
      *(
        (old_width, new_width)
        if direction == FORWARD
        else (new_width, old_width)
      ),
      direction,
    )
