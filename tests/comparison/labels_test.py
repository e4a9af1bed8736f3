"""How methods, starts and adapters are written and drawn."""

import dataclasses
from typing import ClassVar

from flax import linen as nn
import pytest

from advbct_jax.adapters.kinds import ADAPTERS
from advbct_jax.comparison.labels import (
  method_color,
  method_label,
  row_label,
  start_label,
  start_marker,
)
from advbct_jax.methods import METHODS


class Toy(nn.Module):
  label: ClassVar[str] = 'TOY-1'
  color: ClassVar[str] = '#123456'


def test_a_method_that_is_one_entry_has_its_own_name_and_colour(monkeypatch):
  monkeypatch.setitem(METHODS, 'toy', Toy)

  assert (method_label('toy'), method_color('toy')) == ('TOY-1', '#123456')
  assert row_label('toy', 'aligned') == 'TOY-1 (aligned)'


def test_an_adapter_that_is_one_entry_has_its_own_name_and_marker(monkeypatch):
  kind = dataclasses.replace(ADAPTERS['ridge'], label='Toy map', marker='*')
  monkeypatch.setitem(ADAPTERS, 'toy_map', kind)

  assert (start_label('toy_map'), start_marker('toy_map')) == ('Toy map', '*')
  assert row_label('independent', 'toy_map') == 'Toy map'


@pytest.mark.parametrize('name', ['advbct_normalized', 'no_boundary'])
def test_variants_are_written_as_named_and_share_a_colour_of_their_own(name):
  assert method_label(name) == name.replace('_', ' ')
  colors = {method_color(method) for method in METHODS}
  assert method_color(name) == method_color('another') not in colors


STARTS = ('fresh', 'old', 'aligned', 'identity', 'rotation', *ADAPTERS)


def test_no_two_starts_or_adapters_look_alike():
  markers = [start_marker(s) for s in STARTS]

  assert len({*markers, start_marker('another')}) == len(markers) + 1
