"""FCT's network as published."""

import jax
import numpy as np
import pytest

from advbct_jax.adapters import fct
from advbct_jax.adapters.adapter import load_adapter, save_adapter
from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.errors import InputError
from tests.adapters.small_stores import random_rotation, unit, write

_RANDOM = np.random.default_rng(0)
_OLD = _RANDOM.normal(size=(1200, 6))
_BENT = np.abs(unit(_OLD) @ random_rotation(6)) - 0.3
_BLOCKS = ('old_1', 'old_2', 'side_1', 'side_2', 'mixer_1', 'mixer_2')


def _fit(tmp_path, **options):
  stores = write(tmp_path / 'new', _BENT), write(tmp_path / 'old', _OLD)
  options = {'hidden': 24, 'epochs': 3, 'batch_size': 128} | options
  return fit_adapter('fct', *stores, **options)


def _draw_network(width=4, side_width=4, target_width=3, hidden=5):
  """A network none of whose arrays is as it is drawn, and statistics."""
  random = np.random.default_rng(1)
  parameters = {
    name: random.normal(size=array.shape).astype(np.float32)
    for name, array in fct._start(
      0, width, side_width, target_width, hidden
    ).items()
  }
  statistics = {}
  for name in _BLOCKS:
    size = len(parameters[f'{name}_scale'])
    statistics[f'{name}_mean'] = random.normal(size=size).astype(np.float32)
    statistics[f'{name}_variance'] = random.uniform(0.5, 2, size).astype(
      np.float32
    )
  return parameters, statistics


def _map_in_numpy(parameters, source, statistics=None, side=None):
  """The mapped vectors, and the statistics of the batch."""
  side = source if side is None else side
  found = {}

  def block(name, x):
    linear = x @ parameters[name + '_weights'].astype(float)
    found[name + '_mean'] = linear.mean(axis=0)
    found[name + '_variance'] = linear.var(axis=0)
    used = found if statistics is None else statistics
    scaled = (linear - used[name + '_mean']) / np.sqrt(
      used[name + '_variance'] + 1e-5
    )
    return np.maximum(
      scaled * parameters[name + '_scale'] + parameters[name + '_shift'], 0
    )

  old = block('old_2', block('old_1', source))
  side = block('side_2', block('side_1', side))
  mixed = block('mixer_2', block('mixer_1', np.hstack([old, side])))
  return mixed @ parameters['out_weights'] + parameters['out_bias'], found


def test_the_network_has_the_published_widths():
  parameters = fct._start(0, 5, 3, 7, 2048)
  shapes = [parameters[f'{name}_weights'].shape for name in (*_BLOCKS, 'out')]
  assert shapes == [
    *((5, 10), (10, 14), (3, 6), (6, 14)),
    *((28, 2048), (2048, 2048), (2048, 7)),
  ]


@pytest.mark.parametrize('frozen', [False, True])
def test_map_and_loss_are_those_of_blocks_normalised_either_way(frozen):
  parameters, statistics = _draw_network()
  source = _RANDOM.normal(size=(32, 4)).astype(np.float32)
  target = _RANDOM.normal(size=(32, 3)).astype(np.float32)
  wanted, found = _map_in_numpy(
    parameters, source, statistics if frozen else None
  )

  mapped, said = jax.jit(fct._map)(parameters, source, statistics, frozen)
  loss, _ = jax.jit(fct._loss)(parameters, source, target, statistics, frozen)

  np.testing.assert_allclose(mapped, wanted, rtol=1e-4, atol=1e-4)
  assert float(loss) == pytest.approx(np.mean((wanted - target) ** 2), rel=1e-4)
  for name, array in found.items():
    np.testing.assert_allclose(said[name], array, rtol=1e-4, atol=1e-4)


def test_what_is_kept_maps_by_the_running_statistics(monkeypatch):
  monkeypatch.setattr(fct, '_ROWS', 20)  # so that they are mapped in parts
  parameters, statistics = _draw_network()
  source = _RANDOM.normal(size=(32, 4)).astype(np.float32)
  wanted, _ = _map_in_numpy(parameters, source, statistics)

  folded = jax.tree.map(np.asarray, fct._fold(parameters, statistics))

  np.testing.assert_allclose(
    fct.apply(folded, source), wanted, rtol=1e-3, atol=1e-3
  )
  assert fct.apply(folded, source[:0]).shape == (0, 3)


def test_side_vectors_are_what_the_second_branch_sees():
  parameters, statistics = _draw_network(side_width=2)
  source, side = np.split(
    _RANDOM.normal(size=(32, 6)).astype(np.float32), [4], axis=1
  )
  wanted, _ = _map_in_numpy(parameters, source, statistics, side)

  joined = np.hstack([source, side])
  mapped, _ = fct._map(parameters, joined, statistics, True)
  folded = jax.tree.map(np.asarray, fct._fold(parameters, statistics))

  for found in (mapped, fct.apply(folded, joined)):
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('frozen', [False, True])
def test_a_step_is_adam_and_statistics_follow_until_they_are_frozen(frozen):
  parameters, statistics = _draw_network()
  source = _RANDOM.normal(size=(32, 4)).astype(np.float32)
  target = _RANDOM.normal(size=(32, 3)).astype(np.float32)
  _, found = _map_in_numpy(parameters, source, statistics if frozen else None)
  stepped, _, usual = fct._take_step(
    *(parameters, fct._optimizer().init(parameters), statistics),
    *(source, target, 0.01, frozen),
  )

  def loss(parameters):
    mapped, _ = _map_in_numpy(
      parameters, source, statistics if frozen else None
    )
    return np.mean((mapped - target) ** 2)

  for name, before in parameters.items():
    place = np.unravel_index(before.size // 2, before.shape)
    losses = []
    for change in (1e-5, -1e-5):
      changed = {**parameters, name: before.astype(float)}
      changed[name][place] += change
      losses.append(loss(changed))
    gradient = (losses[0] - losses[1]) / 2e-5 + 2.0**-15 * before[place]
    # Adam's first step has little but the gradient's sign.
    step = 0.01 * gradient / (abs(gradient) + 1e-8)
    assert stepped[name][place] == pytest.approx(before[place] - step, abs=1e-5)
  for name, before in statistics.items():
    unbiased = 32 / 31 if name.endswith('variance') else 1
    wanted = 0.9 * before + 0.1 * unbiased * found[name]
    np.testing.assert_allclose(
      usual[name], before if frozen else wanted, rtol=1e-4, atol=1e-4
    )


def test_the_rate_rises_for_five_of_eighty_epochs_and_falls_along_a_cosine():
  rates = [fct._learning_rate(1.0, epoch, 80) for epoch in range(80)]
  np.testing.assert_allclose(rates[:6], [0.2, 0.4, 0.6, 0.8, 1, 1])
  assert rates[5 + 25] == pytest.approx((1 + np.cos(np.pi / 3)) / 2)
  assert rates[-1] < 1e-3
  assert fct._learning_rate(1.0, 0, 1) == 1


def test_normalisation_is_frozen_in_the_second_half(tmp_path, monkeypatch):
  frozen = []
  step = fct._take_step

  def note(*arguments):
    frozen.append(arguments[-1])
    return step(*arguments)

  monkeypatch.setattr(fct, '_take_step', note)
  _fit(tmp_path, epochs=3, batch_size=500)
  assert frozen == [False, False, False, False, True, True]


def test_it_follows_a_bend_that_ridge_cannot(tmp_path):
  adapter = _fit(tmp_path, epochs=30, learning_rate=0.01)
  stores = write(tmp_path / 'new', _BENT), write(tmp_path / 'old', _OLD)
  ridge = fit_adapter('ridge', *stores, direction='forward')

  errors = [
    np.square(one.apply(_OLD) - unit(_BENT)).mean() for one in (adapter, ridge)
  ]
  assert adapter.card.direction == 'forward'
  assert errors[0] < 0.5 * errors[1]


def test_one_that_was_saved_maps_as_before(tmp_path):
  adapter = _fit(tmp_path)
  save_adapter(adapter, tmp_path / 'adapter')
  loaded = load_adapter(tmp_path / 'adapter')

  assert loaded.digest == adapter.digest
  np.testing.assert_array_equal(loaded.apply(_OLD), adapter.apply(_OLD))


def test_the_same_seed_gives_the_same_map(tmp_path):
  first, again, other = (
    _fit(tmp_path / str(number), seed=seed).digest
    for number, seed in enumerate((1, 1, 2))
  )
  assert first == again != other


@pytest.mark.parametrize(
  'options',
  [{'epochs': 0}, {'hidden': 0}, {'batch_size': 1}, {'learning_rate': 0.0}],
)
def test_impossible_options_are_refused(tmp_path, options):
  with pytest.raises(InputError, match=f'fct: .*{next(iter(options))}'):
    _fit(tmp_path, **options)


def test_backward_it_is_refused(tmp_path):
  with pytest.raises(InputError, match=r"'backward'; wanted: forward"):
    _fit(tmp_path, direction='backward')
