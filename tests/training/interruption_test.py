import signal

import pytest

from advbct_jax.training.interruption import Interruption


@pytest.fixture
def obeyed():
  """The signals that were obeyed; to obey SIGTERM is to be listed here."""
  numbers = []
  before = signal.signal(
    signal.SIGTERM, lambda number, _: numbers.append(number)
  )
  yield numbers
  signal.signal(signal.SIGTERM, before)


def test_the_first_signal_is_noted_and_the_second_obeyed(obeyed):
  with Interruption() as interruption:
    assert interruption.signal is None
    signal.raise_signal(signal.SIGTERM)
    assert interruption.signal == signal.SIGTERM
    assert obeyed == []
    signal.raise_signal(signal.SIGTERM)
    assert obeyed == [signal.SIGTERM]


def test_control_c_is_noted_and_then_interrupts():
  with Interruption() as interruption:
    signal.raise_signal(signal.SIGINT)
    assert interruption.signal == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)


def test_signals_are_obeyed_again_afterwards(obeyed):
  with Interruption():
    pass
  signal.raise_signal(signal.SIGTERM)

  assert obeyed == [signal.SIGTERM]
