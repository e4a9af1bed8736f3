"""How the new encoder is tied to the old one, a method a file."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from advbct_jax.class_shards import ClassLayout
from advbct_jax.errors import InputError
from advbct_jax.methods.advbct import AdvBCT
from advbct_jax.methods.advbct_improved import ImprovedAdvBCT
from advbct_jax.methods.bct import BCT
from advbct_jax.methods.bct_ranking import BCTRanking
from advbct_jax.methods.bt2 import BT2
from advbct_jax.methods.contrastive import Contrastive
from advbct_jax.methods.d_simplex import DSimplex
from advbct_jax.methods.hoc import HOC
from advbct_jax.methods.hot_refresh import HotRefresh
from advbct_jax.methods.independent import Independent
from advbct_jax.methods.l2 import L2, WeakenedL2
from advbct_jax.methods.lce import LCE
from advbct_jax.methods.lwf import LwF
from advbct_jax.methods.method import Method
from advbct_jax.methods.mixbct import MixBCT
from advbct_jax.methods.nccl import NCCL
from advbct_jax.methods.ndpp import NDPP
from advbct_jax.methods.odpp import ODPP
from advbct_jax.methods.prunnet import PrunNet
from advbct_jax.methods.triplet import Triplet
from advbct_jax.methods.unibct import UniBCT
from advbct_jax.models.encoder import Encoder, classifier

# All that the commands, configs, tables and plots know of a method is here and
# in its class.
METHODS: dict[str, type[Method]] = {
  'advbct': AdvBCT,
  'advbct_improved': ImprovedAdvBCT,
  'bct': BCT,
  'bct_ranking': BCTRanking,
  'bt2': BT2,
  'contrastive': Contrastive,
  'd_simplex': DSimplex,
  'hoc': HOC,
  'hot_refresh': HotRefresh,
  'independent': Independent,
  'l2': L2,
  'lce': LCE,
  'lwf': LwF,
  'mixbct': MixBCT,
  'nccl': NCCL,
  'ndpp': NDPP,
  'odpp': ODPP,
  'prunnet': PrunNet,
  'triplet': Triplet,
  'unibct': UniBCT,
  'weakened_l2': WeakenedL2,
}

# What every module has, and what every method is given.
_NO_OPTIONS = {field.name for field in dataclasses.fields(Method)}


def find_method(name: str) -> type[Method]:
  """Looks a method up.

  Args:
    name: a key of `METHODS`.

  Raises:
    InputError: if there is no such method.
  """
  if name not in METHODS:
    raise InputError(
      f'config.method is {name!r}; wanted: one of {", ".join(METHODS)}.'
    )
  return METHODS[name]


def method_options(name: str) -> dict[str, Any]:
  """The options of a method with their defaults, as its class has them.

  Args:
    name: a key of `METHODS`.

  >>> method_options('l2')
  {'weight': 10.0, 'threshold': 0.0}
  """
  return {
    field.name: field.default
    for field in dataclasses.fields(find_method(name))
    if field.name not in _NO_OPTIONS
  }


def make_method(
  name: str,
  encoder: Encoder,
  classes: int,
  options: Mapping[str, Any],
  *,
  class_layout: ClassLayout | None = None,
  compatible_dimension: int | None = None,
  axis_name: str | None = None,
  places: np.ndarray | None = None,
) -> Method:
  """Builds a method round an encoder.

  Args:
    name: a key of `METHODS`.
    encoder: to train.
    classes: the number C of new classes.
    options: of the method, those that differ from `method_options`.
    class_layout: whether each device has all classes or a shard; None for all.
    compatible_dimension: the width of the part of an embedding that old ones
      are compared with; None for all of it.
    axis_name: the mapped axis, None outside of any.
    places: [C] of each class its place among all labels of the data set; None
      for its number.

  Raises:
    InputError: if there is no such method, or an option is none.
  """
  return find_method(name)(
    encoder=encoder,
    classifier=classifier(class_layout.count if class_layout else classes),
    classes=classes,
    class_layout=class_layout,
    compatible_dimension=compatible_dimension,
    axis_name=axis_name,
    places=places,
    **options,
  )
