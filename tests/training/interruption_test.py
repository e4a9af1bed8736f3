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


@pytest.fixture
def handle_control_c():
  """Sets what Ctrl-C does, whatever the tests were started with."""
  before = signal.getsignal(signal.SIGINT)
  yield lambda handler: signal.signal(signal.SIGINT, handler)
  signal.signal(signal.SIGINT, before)


def test_an_ignored_control_c_stays_ignored(handle_control_c):
  handle_control_c(signal.SIG_IGN)
  with Interruption() as interruption:
    signal.raise_signal(signal.SIGINT)
  assert interruption.signal is None


def test_control_c_is_noted_and_then_interrupts(handle_control_c):
  handle_control_c(signal.default_int_handler)
  with Interruption() as interruption:
    signal.raise_signal(signal.SIGINT)
    assert interruption.signal == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)


def test_the_end_of_the_terminal_is_noted():
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  with Interruption() as interruption:
    signal.raise_signal(signal.SIGHUP)
  signal.signal(signal.SIGHUP, before)

  assert interruption.signal == signal.SIGHUP


def test_signals_are_obeyed_again_afterwards(obeyed):
  with Interruption():
    pass
  signal.raise_signal(signal.SIGTERM)

  assert obeyed == [signal.SIGTERM]
