import ml_dtypes
import numpy as np
import pytest

from advbct_jax.convert.batch_counters import read_counters
from advbct_jax.weights.layouts import PUBLISHED

BN = 'batch_stats/encoder/bn/mean'


def _read(counter):
  tensors = {'bn.num_batches_tracked': counter}
  found, dropped = read_counters(tensors, [BN], PUBLISHED)
  assert found.keys() == {'encoder/bn'}
  return found['encoder/bn'], dropped


@pytest.mark.parametrize(
  'dtype',
  [
    np.int64,
    np.int32,
    np.uint8,
    np.float16,
    np.float32,
    np.float64,
    ml_dtypes.bfloat16,
  ],
)
@pytest.mark.parametrize('shape', [(), (1,), (1, 1)])
def test_a_count_is_taken_in_whatever_form(dtype, shape):
  assert _read(np.full(shape, 9, dtype)) == (9, [])


@pytest.mark.parametrize(
  'counter',
  [
    np.float16(np.inf),
    np.float32(np.nan),
    np.float32(0.5),
    np.int64(-1),
    np.int64(2**31),
    np.uint64(2**64 - 1),
    np.ones(2),
    np.ones(0),
    np.complex64(1),
  ],
  ids=repr,
)
def test_what_is_no_count_is_dropped_and_said(counter):
  found, dropped = _read(np.asarray(counter))
  assert found is None
  assert [text.split()[0] for text in dropped] == ['bn.num_batches_tracked']


def test_a_count_that_is_missing_is_not_worth_a_word():
  assert read_counters({}, [BN], PUBLISHED) == ({'encoder/bn': None}, [])


def test_of_many_that_are_dropped_three_are_named():
  modules = [f'encoder/backbone/layer1_{n}/bn1' for n in range(9)]
  tensors = {
    PUBLISHED.counter_name(module): np.asarray(-1) for module in modules
  }
  flat = [f'batch_stats/{module}/mean' for module in modules]
  _, dropped = read_counters(tensors, flat, PUBLISHED)
  assert len(dropped) == 4
  assert dropped[-1] == '… (9 in all)'
